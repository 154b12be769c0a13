"""image-classifier: says which digit an image shows, on MNIST."""
