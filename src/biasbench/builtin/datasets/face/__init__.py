"""Parts of `faces`: the law of its attributes, who is drawn, how a portrait is aged, turned and painted."""
