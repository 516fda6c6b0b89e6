"""The same work done with other means, written as well as those who use them would write it."""
