"""`cleave soak`: whether a server that loses its parts at random moments ever gives a wrong answer, or none."""
