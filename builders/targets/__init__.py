"""What a cut is built for: a folder for each engine, and the registry that names them."""
