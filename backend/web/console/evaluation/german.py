"""The German sentences of the evaluation, by the English ones."""

from collections.abc import Mapping

EVALUATION: Mapping[str, str] = {
    "Evaluation": "Auswertung",
    "Control": "Feld",
    "Show": "Zeigen",
    "{version}, served": "{version}, im Einsatz",
    "{version}, without outcomes": "{version}, ohne Ergebnisse",
    "no answer": "keine Antwort",
    "elsewhere": "anderswo",
    "other nodes": "andere Knoten",
    "{version}, {place}label {label}, predicted {predicted}": (
        "{version}, {place}Label {label}, vorhergesagt {predicted}"
    ),
    "1 test image of {products}": "1 Testbild von {products}",
    "{count} test images of {products}": "{count} Testbilder von {products}",
    "No version has learned from them.": "Keine Version hat aus ihnen gelernt.",
    "Products are not known, so the figures may be too good.": (
        "Produkte sind nicht bekannt, die Zahlen können also zu gut sein."
    ),
    "The page shows {shown} of them, as good as drawn at random.": (
        "Die Seite zeigt {shown} davon, so gut wie zufällig gezogen."
    ),
    "Images that have left the project since are not shown.": (
        "Bilder, die das Projekt seither verlassen haben, werden nicht gezeigt."
    ),
    "Nothing can be evaluated before the first training.": "Vor dem ersten Training gibt es nichts auszuwerten.",
    "Version {version} is from an earlier release, which did not keep the outcomes of its test images. The next "
    "version keeps them.": (
        "Version {version} stammt von einer früheren Fassung des Programms, die die Ergebnisse der Testbilder nicht "
        "aufbewahrt hat. Die nächste Version bewahrt sie auf."
    ),
    "Version {version} has no test images. A fifth of the labelled images is set aside for the test, by product: label "
    "images of more products, and train again.": (
        "Version {version} hat keine Testbilder. Ein Fünftel der gelabelten Bilder wird für den Test zurückgelegt, "
        "produktweise: Labeln Sie Bilder weiterer Produkte, und trainieren Sie neu."
    ),
    "What is taken for what": "Was wofür gehalten wird",
    "Place in the taxonomy": "Stelle in der Taxonomie",
    "All nodes": "Alle Knoten",
    "label": "Label",
    "predicted": "vorhergesagt",
    "Rows are labels, columns predictions; a number opens its images.": (
        "Zeilen sind Labels, Spalten Vorhersagen; eine Zahl öffnet ihre Bilder."
    ),
    "The stronger the colour, the larger the share of the row: green is right, red is wrong.": (
        "Je kräftiger die Farbe, desto größer der Anteil an der Zeile: Grün ist richtig, Rot falsch."
    ),
    "Elsewhere is outside of “{node}”.": "Anderswo ist außerhalb von „{node}“.",
    "1 other node with fewer mistakes is not shown by itself. A name in the table below opens its confusions.": (
        "1 weiterer Knoten mit weniger Fehlern ist nicht einzeln gezeigt. Ein Name in der Tabelle unten öffnet seine "
        "Verwechslungen."
    ),
    "{count} other nodes with fewer mistakes are not shown by themselves. A name in the table below opens its "
    "confusions.": (
        "{count} weitere Knoten mit weniger Fehlern sind nicht einzeln gezeigt. Ein Name in der Tabelle unten öffnet "
        "seine Verwechslungen."
    ),
    "1 node has no test image.": "1 Knoten hat kein Testbild.",
    "{count} nodes have no test image.": "{count} Knoten haben kein Testbild.",
    "No test image has a label below this node.": "Kein Testbild hat ein Label unter diesem Knoten.",
}
