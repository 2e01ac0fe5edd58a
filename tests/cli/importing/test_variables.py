from gateway_core.cli.importing.variables import Variables, variable_name


def test_names_of_variables():
    assert variable_name("X-Api-Key") == "X_API_KEY"
    assert variable_name("7zip") == "_7ZIP"
    assert variable_name("über") == "BER"
    assert variable_name("!!") == "VALUE"


def test_a_name_that_is_referred_to_is_not_taken_for_another_value():
    variables = Variables()
    assert variables.refer("TOKEN", "x") == "${TOKEN}"
    assert variables.hold("abc", "TOKEN", "one", "y") == "${ONE_TOKEN}"
    assert variables.hold("def", "TOKEN", "one", "y") == "${ONE_TOKEN_2}"
