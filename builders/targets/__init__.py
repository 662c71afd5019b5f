"""One folder for each kind of engine, with the same file names in each."""
