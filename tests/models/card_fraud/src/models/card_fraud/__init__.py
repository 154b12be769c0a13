"""card-fraud: the model that the tests of the template train, release and watch, whatever a fork has."""
