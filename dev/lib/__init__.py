"""What the set-up, the demo and the test drivers share. Plain Python, nothing to install."""
