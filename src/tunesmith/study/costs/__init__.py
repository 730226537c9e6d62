"""What a training would take on machines that are not at hand: time, memory and price, from their makers' figures."""
