"""taxonomist: a Label Studio ML backend for images that are labelled with a taxonomy."""
