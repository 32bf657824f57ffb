"""What talks to Label Studio and to people: routes, predictor, jobs, connect, doctor, pages and the command line."""
