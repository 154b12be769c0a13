"""From a trained model to a served one: `packed` travels in the bento, the rest builds and tries it in CI."""
