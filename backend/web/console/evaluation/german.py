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
    "{version} has not learned from them.": "{version} hat nicht aus ihnen gelernt.",
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
    "Version {version} cannot be read. Choose another one, or train again.": (
        "Version {version} kann nicht gelesen werden. Wählen Sie eine andere, oder trainieren Sie neu."
    ),
    "1 node with fewer mistakes is not shown.": "1 Knoten mit weniger Fehlern ist nicht gezeigt.",
    "{count} nodes with fewer mistakes are not shown.": "{count} Knoten mit weniger Fehlern sind nicht gezeigt.",
    "Nodes with the most mistakes": "Knoten mit den meisten Fehlern",
    "Mistakes": "Fehler",
    "Precision": "Genauigkeit",
    "Recall": "Trefferquote",
    "F1": "F1",
    "Show 1 more node": "1 weiteren Knoten zeigen",
    "Show {count} more nodes": "{count} weitere Knoten zeigen",
    "Mistakes are images of the node that are missed, and others for which it is predicted.": (
        "Fehler sind Bilder des Knotens, die nicht erkannt werden, und andere, für die er vorhergesagt wird."
    ),
    "Precision and coverage over the threshold": "Genauigkeit und Abdeckung über der Schwelle",
    "With its threshold, {version} suggests a path for {coverage} of the test images; of {judged} that labels judge, "
    "{precision} are right.": (
        "Mit ihrer Schwelle schlägt {version} für {coverage} der Testbilder einen Pfad vor; von {judged}, die Labels "
        "beurteilen, sind {precision} richtig."
    ),
    "With its threshold, {version} suggests no path for the test images.": (
        "Mit ihrer Schwelle schlägt {version} für die Testbilder keinen Pfad vor."
    ),
    "{version} suggests no path yet: no threshold keeps the promise with the labels that it has learned from.": (
        "{version} schlägt noch keinen Pfad vor: Mit den Labels, aus denen die Version gelernt hat, hält keine "
        "Schwelle das Versprechen."
    ),
    "precision: the share of the suggested paths that is right": (
        "Genauigkeit: Anteil der vorgeschlagenen Pfade, der richtig ist"
    ),
    "coverage: the share of the images that get a path": "Abdeckung: Anteil der Bilder, die einen Pfad bekommen",
    "1 test image, predicted alone.": "1 Testbild, einzeln vorhergesagt.",
    "{count} test images, each predicted alone.": "{count} Testbilder, jedes einzeln vorhergesagt.",
    "threshold: the least probability of a suggestion": "Schwelle: kleinste Wahrscheinlichkeit eines Vorschlags",
    "threshold": "Schwelle",
    "threshold of {version}": "Schwelle von {version}",
    "As a table": "Als Tabelle",
    "Threshold": "Schwelle",
    "Coverage": "Abdeckung",
    "Judged paths": "Beurteilte Pfade",
    "Reliability": "Verlässlichkeit",
    "On average, the predicted probability is {gap} points away from the share that is right.": (
        "Im Mittel liegt die vorhergesagte Wahrscheinlichkeit {gap} Punkte neben dem Anteil, der richtig ist."
    ),
    "predicted probability": "vorhergesagte Wahrscheinlichkeit",
    "Share that is right, by predicted probability": "Anteil, der richtig ist, nach vorhergesagter Wahrscheinlichkeit",
    "share that is right; a larger mark has more images": (
        "Anteil, der richtig ist; ein größerer Punkt hat mehr Bilder"
    ),
    "as it should be: of the images with 80 %, 80 % are right": (
        "so soll es sein: von den Bildern mit 80 % sind 80 % richtig"
    ),
    "1 test image: its likeliest path, as deep as its label.": (
        "1 Testbild: sein wahrscheinlichster Pfad, so tief wie sein Label."
    ),
    "{count} test images: the likeliest path of each, as deep as its label.": (
        "{count} Testbilder: der wahrscheinlichste Pfad von jedem, so tief wie sein Label."
    ),
    "Probability": "Wahrscheinlichkeit",
    "Mean": "Mittel",
    "Two versions on the same images": "Zwei Versionen auf denselben Bildern",
    "No other version keeps the outcomes of its test images. After the next training, both are shown here.": (
        "Keine andere Version bewahrt die Ergebnisse ihrer Testbilder auf. Nach dem nächsten Training stehen hier "
        "beide."
    ),
    "{version} beside": "{version} neben",
    "Compare": "Vergleichen",
    "{version} and {other} have no test image in common.": "{version} und {other} haben kein gemeinsames Testbild.",
    "1 image is in the test part of both; neither has learned from it. Labels are those of the newer version.": (
        "1 Bild ist im Testteil beider; keine hat daraus gelernt. Die Labels sind die der neueren Version."
    ),
    "{count} images are in the test part of both; neither has learned from them. Labels are those of the newer "
    "version.": (
        "{count} Bilder sind im Testteil beider; keine hat aus ihnen gelernt. Die Labels sind die der neueren Version."
    ),
    "Figure": "Zahl",
    "Hierarchical F1": "Hierarchisches F1",
    "right, {level}": "richtig, {level}",
    "whole label": "ganzes Label",
    "images with a suggested path": "Bilder mit vorgeschlagenem Pfad",
    "suggested paths that are right": "vorgeschlagene Pfade, die richtig sind",
    "better": "besser",
    "worse": "schlechter",
    "both right": "beide richtig",
    "both wrong": "beide falsch",
    "Better: right in {version} alone. Worse: right in {other} alone. A number opens its images.": (
        "Besser: nur in {version} richtig. Schlechter: nur in {other} richtig. Eine Zahl öffnet ihre Bilder."
    ),
    "right in {version} alone, not in {other}": "nur in {version} richtig, nicht in {other}",
    "right in {other} alone, not in {version}": "nur in {other} richtig, nicht in {version}",
    "right in {version} and {other}": "in {version} und {other} richtig",
    "wrong in {version} and {other}": "in {version} und {other} falsch",
}
