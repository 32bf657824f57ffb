"""The German sentences of the panel in the labelling screen, by the English ones."""

from collections.abc import Mapping

GERMAN_PANEL: Mapping[str, str] = {
    # page
    "Suggestions and look-alikes": "Vorschläge und ähnliche Bilder",
    "The panel cannot be shown": "Diese Ansicht kann nicht gezeigt werden",
    "Use this label": "Dieses Label übernehmen",
    "Use this label: {path}": "Dieses Label übernehmen: {path}",
    "It is new: the model has not learned it, and nothing is promised.": (
        "Er ist neu: Das Modell hat ihn nicht gelernt, und nichts ist versprochen."
    ),
    "Open the task of this image": "Die Aufgabe dieses Bildes öffnen",
    "Open the task": "Die Aufgabe öffnen",
    "Close": "Schließen",
    "More": "Mehr",
    "Back to the first": "Zurück zum Anfang",
    "Similarity {similarity}": "Ähnlichkeit {similarity}",
    # offers and look-alikes
    "Suggestion": "Vorschlag",
    "Probably one of these": "Wahrscheinlich einer von diesen",
    "The look-alikes agree on": "Die ähnlichen Bilder haben gemeinsam",
    "The look-alikes propose": "Die ähnlichen Bilder schlagen vor",
    "nearly the same": "fast dasselbe",
    # why there is no suggestion
    "Control sample: please label without help.": "Kontrollstichprobe: Bitte ohne Hilfe labeln.",
    "No suggestion yet: no image of this project has an accepted label.": (
        "Noch kein Vorschlag: Kein Bild dieses Projekts hat ein angenommenes Label."
    ),
    "No suggestion: the model is not sure about this image.": (
        "Kein Vorschlag: Das Modell ist sich bei diesem Bild nicht sicher."
    ),
    "No suggestion yet: the model has not learned this field.": (
        "Noch kein Vorschlag: Das Modell hat dieses Feld noch nicht gelernt."
    ),
    "No suggestion: what the model would suggest is no choice any more.": (
        "Kein Vorschlag: Was das Modell vorschlagen würde, steht nicht mehr zur Wahl."
    ),
    "No suggestion: too many were wrong lately, so the model suggests less until it has learned more.": (
        "Kein Vorschlag: Zuletzt waren zu viele falsch. Das Modell schlägt weniger vor, bis es mehr gelernt hat."
    ),
    "No suggestion yet: the look-alikes have different labels.": (
        "Noch kein Vorschlag: Die ähnlichen Bilder haben verschiedene Labels."
    ),
    "No suggestion: the image cannot be read at the moment. Label it as you see it.": (
        "Kein Vorschlag: Das Bild kann gerade nicht gelesen werden. Labeln Sie es, wie Sie es sehen."
    ),
    "No suggestion: the image takes long to read. Reload the page later.": (
        "Kein Vorschlag: Das Bild braucht lange. Laden Sie die Seite später neu."
    ),
    "No suggestion: the taxonomy of this project cannot be read at the moment.": (
        "Kein Vorschlag: Die Taxonomie dieses Projekts kann gerade nicht gelesen werden."
    ),
    "1 image waits for a further annotator: a label needs {needed} annotators who agree.": (
        "1 Bild wartet auf eine weitere Person: Ein Label braucht {needed} Personen, die sich einig sind."
    ),
    "{count} images wait for a further annotator: a label needs {needed} annotators who agree.": (
        "{count} Bilder warten auf eine weitere Person: Ein Label braucht {needed} Personen, die sich einig sind."
    ),
    # problems
    "This panel may not be shown: its address has ended or is wrong. Tell your project lead.": (
        "Diese Ansicht darf nicht gezeigt werden: Die Adresse ist abgelaufen oder falsch. "
        "Sagen Sie es Ihrer Projektleitung."
    ),
    "There is nothing at this address. Tell your project lead.": (
        "An dieser Adresse ist nichts. Sagen Sie es Ihrer Projektleitung."
    ),
    "The address of this panel is not complete, or too long. Tell your project lead.": (
        "Die Adresse dieser Ansicht ist unvollständig oder zu lang. Sagen Sie es Ihrer Projektleitung."
    ),
    "The panel cannot be shown at the moment. Label the image as you see it.": (
        "Diese Ansicht kann gerade nicht gezeigt werden. Labeln Sie das Bild, wie Sie es sehen."
    ),
}
