"""What a product runs on: a matrix as its tiles hold it, and digital changes of its inputs."""
