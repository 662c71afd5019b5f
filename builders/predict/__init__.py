"""What serving would cost on a machine, from a cut."""
