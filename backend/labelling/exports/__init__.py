"""What imports of Label Studio's exports need: the files and their forms, and the comparison with what is kept."""
