"""The German sentences of the pages that label many images, by the English ones."""

from collections.abc import Mapping

BULK: Mapping[str, str] = {
    "Labels for many images": "Labels für viele Bilder",
    "Label many images": "Viele Bilder labeln",
    "Undo the labels of many images": "Labels vieler Bilder rückgängig machen",
    "Label all of this filter": "Alle dieses Filters labeln",
    "Label selected images": "Ausgewählte Bilder labeln",
    "Earlier actions": "Frühere Aktionen",
    "Select {name}": "{name} auswählen",
    "Label 1 image": "1 Bild labeln",
    "Label {count} images": "{count} Bilder labeln",
    "Label for all of them, as {who}": "Label für alle, als {who}",
    "At most {most} images are labelled in one action: these are the first {most}.": (
        "In einer Aktion werden höchstens {most} Bilder gelabelt: das sind die ersten {most}."
    ),
    "Images with personal data are left out: they are not shown.": (
        "Bilder mit personenbezogenen Daten bleiben weg: sie werden nicht gezeigt."
    ),
    "A field that stays empty counts as left empty, as in Label Studio.": (
        "Ein leeres Feld zählt als leer gelassen, wie in Label Studio."
    ),
    "Give a label for at least one field.": "Gib in mindestens einem Feld ein Label an.",
    "The control has no such path.": "Das Feld hat keinen solchen Pfad.",
    "This control takes the last level only: choose a path below this one.": (
        "Dieses Feld nimmt nur die letzte Ebene: wähle einen Pfad unter diesem."
    ),
    "Did you mean {path}?": "Meintest du {path}?",
    "Check": "Prüfen",
    "one of many in one action": "eines von vielen in einer Aktion",
    "The labelling configuration of this project is not known yet.": (
        "Die Labeling-Konfiguration dieses Projekts ist noch nicht bekannt."
    ),
    "Tasks of this project show several images, so they are labelled one by one in Label Studio.": (
        "Aufgaben dieses Projekts zeigen mehrere Bilder, deshalb werden sie einzeln in Label Studio gelabelt."
    ),
    "A label needs the name of a person. Label Studio tells it where it shares one address with these pages, which "
    "is not so here.": (
        "Ein Label braucht den Namen einer Person. Label Studio nennt ihn, wo es eine Adresse mit diesen Seiten teilt; "
        "hier ist das nicht so."
    ),
    "A label needs the name of a person. Log in to Label Studio in this browser, then reload this page.": (
        "Ein Label braucht den Namen einer Person. Melde dich in diesem Browser bei Label Studio an und lade diese "
        "Seite neu."
    ),
    "Label 1 image as {who}?": "1 Bild als {who} labeln?",
    "Label {count} images as {who}?": "{count} Bilder als {who} labeln?",
    "No image can be labelled as {who}.": "Kein Bild kann als {who} gelabelt werden.",
    "The label is written into Label Studio, marked as one of many. For each image it is one opinion. It trains "
    "versions, and neither tests nor calibrates one.": (
        "Das Label wird in Label Studio geschrieben, als eines von vielen gekennzeichnet. Je Bild ist es eine Meinung. "
        "Es trainiert Versionen, und es testet oder kalibriert keine."
    ),
    "and {count} more": "und {count} weitere",
    "being written": "wird geschrieben",
    "written": "geschrieben",
    "not confirmed": "nicht bestätigt",
    "being undone": "wird rückgängig gemacht",
    "undone": "rückgängig gemacht",
    "1 image is labelled.": "1 Bild ist gelabelt.",
    "{count} images are labelled.": "{count} Bilder sind gelabelt.",
    "1 label is removed.": "1 Label ist entfernt.",
    "{count} labels are removed.": "{count} Labels sind entfernt.",
    "1 label stays, because a person has changed it since.": (
        "1 Label bleibt, weil eine Person es seither geändert hat."
    ),
    "{count} labels stay, because a person has changed them since.": (
        "{count} Labels bleiben, weil eine Person sie seither geändert hat."
    ),
    "1 label was gone already.": "1 Label war schon weg.",
    "{count} labels were gone already.": "{count} Labels waren schon weg.",
    "1 image was not labelled any more.": "1 Bild wurde nicht mehr gelabelt.",
    "{count} images were not labelled any more.": "{count} Bilder wurden nicht mehr gelabelt.",
    "1 image has a label of this person already, which stays as it is.": (
        "1 Bild hat schon ein Label dieser Person, das bleibt, wie es ist."
    ),
    "{count} images have a label of this person already, which stays as it is.": (
        "{count} Bilder haben schon ein Label dieser Person, das bleibt, wie es ist."
    ),
    "1 image cannot be labelled.": "1 Bild kann nicht gelabelt werden.",
    "{count} images cannot be labelled.": "{count} Bilder können nicht gelabelt werden.",
    "1 image waits.": "1 Bild wartet.",
    "{count} images wait.": "{count} Bilder warten.",
    "It begins within seconds where the worker runs. This page reloads by itself.": (
        "Es beginnt in wenigen Sekunden, wenn der Worker läuft. Diese Seite lädt sich von selbst neu."
    ),
    "It was interrupted. Nothing is lost: continue or undo it.": (
        "Es wurde unterbrochen. Nichts ist verloren: mach weiter oder mach es rückgängig."
    ),
    "Continue": "Weitermachen",
    "Undo": "Rückgängig machen",
    "Stop and undo": "Anhalten und rückgängig machen",
    "Undo this action?": "Diese Aktion rückgängig machen?",
    "Label Studio deletes the labels of this action. Those that a person has changed since stay.": (
        "Label Studio löscht die Labels dieser Aktion. Die seither von einer Person geänderten bleiben."
    ),
    "Which images": "Welche Bilder",
    "Image": "Bild",
    "Reason": "Grund",
    "It has no task in Label Studio.": "Es hat keine Aufgabe in Label Studio.",
    "Its task shows several images.": "Seine Aufgabe zeigt mehrere Bilder.",
    "Its task is gone from Label Studio.": "Seine Aufgabe ist nicht mehr in Label Studio.",
    "The labelling config does not take the label any more.": "Die Labeling-Konfiguration nimmt das Label nicht mehr.",
    "A person has changed it since.": "Eine Person hat es seither geändert.",
    "It was labelled by this action before, and a person has changed that.": (
        "Diese Aktion hat es schon gelabelt, und eine Person hat das geändert."
    ),
    "No images were labelled in one action yet.": "Noch wurden keine Bilder in einer Aktion gelabelt.",
    "The newest {most} actions of a project are kept; older ones cannot be undone here.": (
        "Die neuesten {most} Aktionen eines Projekts werden aufgehoben; ältere sind hier nicht rückgängig zu machen."
    ),
    "State": "Stand",
}
