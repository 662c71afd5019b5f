"""`cleave fuzz`: whether any request, or any value in the store, makes a server give up or answer wrongly."""
