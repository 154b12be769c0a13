"""What a reviewer sees of a pull request that changes a model."""
