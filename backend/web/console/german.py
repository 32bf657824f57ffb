"""The German sentences of the console, by the English ones."""

from collections.abc import Mapping

from taxonomist.backend.web.console.bulk.german import BULK
from taxonomist.backend.web.console.evaluation.german import EVALUATION

GERMAN: Mapping[str, str] = {
    # times
    "just now": "gerade eben",
    "1 minute ago": "vor 1 Minute",
    "{count} minutes ago": "vor {count} Minuten",
    "1 hour ago": "vor 1 Stunde",
    "{count} hours ago": "vor {count} Stunden",
    "1 day ago": "vor 1 Tag",
    "{count} days ago": "vor {count} Tagen",
    "Since {ago}.": "Seit: {ago}.",
    "Oldest: {ago}.": "Ältestes: {ago}.",
    # frame
    "Skip to the content": "Zum Inhalt springen",
    "All projects": "Alle Projekte",
    "Project": "Projekt",
    "Projects": "Projekte",
    "Overview": "Übersicht",
    "Images": "Bilder",
    "Filter": "Filter",
    "Suggestion of {version}": "Vorschlag von {version}",
    "Node": "Knoten",
    "right": "richtig",
    "wrong": "falsch",
    "Without {name}": "Ohne {name}",
    "Next images": "Nächste Bilder",
    "No image matches these filters.": "Kein Bild passt zu diesen Filtern.",
    "All images": "Alle Bilder",
    "Not shown: it has personal data.": "Nicht gezeigt: personenbezogene Daten.",
    "The suggestion is right.": "Der Vorschlag ist richtig.",
    "The suggestion is wrong.": "Der Vorschlag ist falsch.",
    "suggested {path}": "Vorschlag {path}",
    "Product": "Produkt",
    "product not known": "Produkt nicht bekannt",
    "test image: no version learns from it": "Testbild: keine Version lernt daraus",
    "Label": "Label",
    "Decided {ago}": "Entschieden {ago}",
    "Labels by person": "Labels nach Person",
    "There are no annotations yet.": "Es gibt noch keine Annotationen.",
    "not shown": "nicht gezeigt",
    "Look-alikes": "Ähnliche Bilder",
    "Look-alike": "Ähnliches Bild",
    "same product": "dasselbe Produkt",
    "Other views of the product": "Andere Ansichten des Produkts",
    "Changes": "Änderungen",
    "Every change that was made here, newest first.": "Jede Änderung, die hier gemacht wurde, die neueste zuerst.",
    "When": "Wann",
    "Who": "Wer",
    "Before": "Zuvor",
    "Older changes": "Ältere Änderungen",
    "Nothing was changed here yet.": "Hier wurde noch nichts geändert.",
    "Open in Label Studio": "In Label Studio öffnen",
    "Log in": "Anmelden",
    "Log out": "Abmelden",
    "Language": "Sprache",
    "Colours": "Farben",
    "As the system": "Wie das System",
    "Light": "Hell",
    "Dark": "Dunkel",
    "This server has no password: everyone on this machine sees and changes everything. Set TAXONOMIST_PASSWORD.": (
        "Dieser Server hat kein Passwort: Alle auf diesem Rechner sehen und ändern hier alles. "
        "Setzen Sie TAXONOMIST_PASSWORD."
    ),
    "With the password of this server, TAXONOMIST_PASSWORD.": "Mit dem Passwort dieses Servers, TAXONOMIST_PASSWORD.",
    "Password": "Passwort",
    "Log in to Label Studio, then reload this page.": (
        "Melden Sie sich in Label Studio an und laden Sie diese Seite neu."
    ),
    "You may not see this project.": "Sie dürfen dieses Projekt nicht sehen.",
    "The password is wrong.": "Das Passwort ist falsch.",
    "This server has no password. Where Label Studio has the same address as this page, log in there as a lead of the "
    "project, then come back.": (
        "Dieser Server hat kein Passwort. Hat Label Studio dieselbe Adresse wie diese Seite, melden Sie sich dort als "
        "Leitung des Projekts an und kommen Sie zurück."
    ),
    "Elsewhere, set the environment variable TAXONOMIST_PASSWORD where the server starts, and start it again.": (
        "Sonst setzen Sie die Umgebungsvariable TAXONOMIST_PASSWORD, wo der Server startet, und starten ihn neu."
    ),
    "This change asks for the password of the server, which has none.": (
        "Diese Änderung verlangt das Passwort des Servers, und er hat keines."
    ),
    "Set the environment variable TAXONOMIST_PASSWORD where the server starts, and start it again. Then give the "
    "password to Label Studio:": (
        "Setzen Sie die Umgebungsvariable TAXONOMIST_PASSWORD, wo der Server startet, und starten Sie ihn neu. Geben "
        "Sie das Passwort dann an Label Studio weiter:"
    ),
    "The password of the server, to be sure": "Zur Sicherheit das Passwort des Servers",
    # errors
    "Not possible": "Nicht möglich",
    "Nothing is here": "Hier ist nichts",
    "You may not do this": "Das dürfen Sie nicht",
    "This did not work": "Das hat nicht funktioniert",
    "The form is too old, or another page has sent it. Go back, reload the page and try again.": (
        "Das Formular ist zu alt, oder eine andere Seite hat es gesendet. Gehen Sie zurück, laden Sie die Seite neu "
        "und versuchen Sie es noch einmal."
    ),
    "Only leads of the project may see this page.": "Diese Seite ist für die Leitung des Projekts.",
    "The log of the server has the reason.": "Der Grund steht im Protokoll des Servers.",
    "What the log says": "Meldung im Protokoll",
    # projects
    "Champion": "Champion",
    "Labels": "Labels",
    "Needs a person": "Braucht einen Menschen",
    "none yet": "noch keiner",
    "nothing": "nichts",
    "1 more": "1 weiteres",
    "{count} more": "{count} weitere",
    "There is no project yet": "Es gibt noch kein Projekt",
    "Connect a project of Label Studio, or import labels from a file:": (
        "Verbinden Sie ein Projekt von Label Studio, oder importieren Sie Labels aus einer Datei:"
    ),
    # overview
    "1 image": "1 Bild",
    "{count} images": "{count} Bilder",
    "1 product": "1 Produkt",
    "{count} products": "{count} Produkten",
    "1 accepted label": "1 akzeptiertes Label",
    "{count} accepted labels": "{count} akzeptierte Labels",
    "1 is being decided": "1 wird gerade entschieden",
    "{count} are being decided": "{count} werden gerade entschieden",
    "The images cannot be counted.": "Die Bilder können nicht gezählt werden.",
    "Promise": "Versprechen",
    "broken": "gebrochen",
    "kept": "gehalten",
    "of 1 suggestion that was answered is right": "von 1 beantworteten Vorschlag ist richtig",
    "of {count} suggestions that were answered are right": "von {count} beantworteten Vorschlägen sind richtig",
    "are promised; no suggestion was answered yet": "sind versprochen; noch wurde kein Vorschlag beantwortet",
    "labels, of about {count} that a promise takes": "Labels; ein Versprechen braucht etwa {count}",
    "No model is served yet. Look-alikes vote.": "Es ist noch kein Modell im Einsatz. Ähnliche Bilder stimmen ab.",
    "{target} of the paths are right, promised.": "{target} der Pfade sind richtig, versprochen.",
    "{target} are right, on average.": "{target} sind im Mittel richtig.",
    "Nothing is suggested until a new version keeps its promise.": (
        "Nichts wird vorgeschlagen, bis eine neue Version ihr Versprechen hält."
    ),
    "No path is promised yet: {labels} of about {needed} labels.": (
        "Noch wird kein Pfad versprochen: {labels} von etwa {needed} Labels."
    ),
    " Where a few paths can be promised, they are listed.": (
        " Wo wenige Pfade versprochen werden können, werden sie aufgelistet."
    ),
    "Suggestions": "Vorschläge",
    "of the images have a suggestion": "der Bilder haben einen Vorschlag",
    "{right} of {answered} were right on images that were labelled without help.": (
        "{right} von {answered} waren richtig, bei Bildern, die ohne Hilfe gelabelt wurden."
    ),
    "Nothing was suggested yet.": "Noch wurde nichts vorgeschlagen.",
    "Unseen products": "Neue Produkte",
    "macro-F1": "Makro-F1",
    "Macro-F1": "Makro-F1",
    "level {level}": "Ebene {level}",
    "{share} right": "{share} richtig",
    "no test images": "keine Testbilder",
    "There are no test images yet, so nothing is known about unseen products.": (
        "Es gibt noch keine Testbilder; über neue Produkte ist also nichts bekannt."
    ),
    "On {images} of {products} that no version has learned from.": (
        "Auf {images} von {products}, aus denen keine Version gelernt hat."
    ),
    "On {images}. Products are not known, so the figure may be too good.": (
        "Auf {images}. Produkte sind nicht bekannt, die Zahl kann also zu gut sein."
    ),
    "of the images have an accepted label": "der Bilder haben ein akzeptiertes Label",
    "There are no images yet.": "Es gibt noch keine Bilder.",
    "accepted label": "akzeptiertes Label",
    "not annotated": "nicht annotiert",
    "skipped": "übersprungen",
    "rejected in review": "bei der Prüfung abgelehnt",
    "too few annotators": "zu wenige Annotierende",
    "not reviewed": "nicht geprüft",
    "left empty": "leer gelassen",
    "disagreement": "uneinig",
    "node is not in the taxonomy": "Knoten fehlt in der Taxonomie",
    "annotation cannot be read": "Annotation nicht lesbar",
    "other controls only": "nur andere Felder",
    "other reason": "anderer Grund",
    "Nothing waits for a decision.": "Nichts wartet auf eine Entscheidung.",
    "Work": "Arbeit",
    "waits": "wartet",
    "Next training": "Nächstes Training",
    "{changed} of {needed} changed labels that start it at once": (
        "{changed} von {needed} geänderten Labels, die es sofort starten"
    ),
    "Last pass over Label Studio: {ago}": "Letzter Abgleich mit Label Studio: {ago}",
    "Labels by node": "Labels nach Knoten",
    "The taxonomy is not known yet.": "Die Taxonomie ist noch nicht bekannt.",
    "Versions": "Versionen",
    "Version": "Version",
    "macro-F1 on unseen products": "Makro-F1 bei neuen Produkten",
    "Macro-F1 on unseen products": "Makro-F1 bei neuen Produkten",
    "right suggestions": "richtige Vorschläge",
    "hollow: not served": "hohl: nicht im Einsatz",
    "Macro-F1 on unseen products, and right suggestions, by version": (
        "Makro-F1 bei neuen Produkten und richtige Vorschläge, nach Version"
    ),
    "Right": "Richtig",
    "of {count}": "von {count}",
    "Action": "Aktion",
    "served": "im Einsatz",
    "There is no version yet.": "Es gibt noch keine Version.",
    # work
    "Training": "Training",
    "Embedding of new images": "Einbettung neuer Bilder",
    "Pass over Label Studio": "Abgleich mit Label Studio",
    "Suggestions for open tasks": "Vorschläge für offene Aufgaben",
    "Suggestions for late tasks": "Vorschläge für späte Aufgaben",
    "Renewal of the panel's key": "Erneuerung des Schlüssels der Leiste",
    "Making of the first backbone": "Erstellung des ersten Backbones",
    "Pre-training": "Vortraining",
    "Adoption of a new backbone": "Übernahme eines neuen Backbones",
    # what needs a person
    "The record of the project is damaged": "Die Projektdatei ist beschädigt",
    "The record of the project was made anew": "Die Projektdatei wurde neu angelegt",
    "No label is lost.": "Kein Label ist verloren.",
    "The project has no taxonomy yet": "Das Projekt hat noch keine Taxonomie",
    "The labelling configuration cannot be used": "Die Konfiguration in Label Studio ist nicht verwendbar",
    "The worker does not run": "Der Worker läuft nicht",
    "Nothing is decided, trained or suggested until it runs: taxonomist serve starts both.": (
        "Nichts wird entschieden, trainiert oder vorgeschlagen, bis er läuft: taxonomist serve startet beide."
    ),
    "1 label of a node that is gone": "1 Label eines Knotens, den es nicht mehr gibt",
    "{count} labels of nodes that are gone": "{count} Labels von Knoten, die es nicht mehr gibt",
    "They name {names}. Training and promotion wait until a person decides.": (
        "Sie nennen {names}. Training und Einsatz warten, bis ein Mensch entscheidet."
    ),
    "1 label with a name that the taxonomy lacks": "1 Label mit einem Namen, der in der Taxonomie fehlt",
    "{count} labels with names it lacks": "{count} Labels mit Namen, die in der Taxonomie fehlen",
    "They name {names}. Add the nodes to the taxonomy, or correct the labels.": (
        "Sie nennen {names}. Ergänzen Sie die Taxonomie, oder berichtigen Sie die Labels."
    ),
    "The promise of the suggestions is broken": "Das Versprechen der Vorschläge ist gebrochen",
    "Too many suggestions for {names} were wrong; fewer are made since then.": (
        "Zu viele Vorschläge für {names} waren falsch; seither werden weniger gemacht."
    ),
    "A new version waits for a decision": "Eine neue Version wartet auf eine Entscheidung",
    "Version {names} is trained and is not served.": "Version {names} ist trainiert und nicht im Einsatz.",
    "1 image where annotators disagree": "1 Bild, bei dem Annotierende uneinig sind",
    "{count} images where annotators disagree": "{count} Bilder, bei denen Annotierende uneinig sind",
    "1 image waits for further annotators": "1 Bild wartet auf weitere Annotierende",
    "{count} images wait for further annotators": "{count} Bilder warten auf weitere Annotierende",
    "1 person annotates": "1 Person annotiert",
    "{count} people annotate": "{count} Personen annotieren",
    "{people}; a label needs {needed} who agree.": "{people}; ein Label braucht {needed}, die sich einig sind.",
    "1 image waits for a further opinion": "1 Bild wartet auf eine weitere Meinung",
    "{count} images wait for a further opinion": "{count} Bilder warten auf eine weitere Meinung",
    "A label needs {needed} annotators who agree.": "Ein Label braucht {needed} Annotierende, die sich einig sind.",
    "1 image with annotations that cannot be read": "1 Bild mit nicht lesbaren Annotationen",
    "{count} images with annotations that cannot be read": "{count} Bilder mit nicht lesbaren Annotationen",
    "1 image cannot be processed": "1 Bild kann nicht verarbeitet werden",
    "{count} images cannot be processed": "{count} Bilder können nicht verarbeitet werden",
    "1 event could not be processed": "1 Ereignis konnte nicht verarbeitet werden",
    "{count} events could not be processed": "{count} Ereignisse konnten nicht verarbeitet werden",
    "1 step of the worker failed": "1 Schritt des Workers ist gescheitert",
    "{count} steps of the worker failed": "{count} Schritte des Workers sind gescheitert",
    "1 kind of job fails again and again": "1 Art von Aufträgen scheitert immer wieder",
    "{count} kinds of jobs fail again and again": "{count} Arten von Aufträgen scheitern immer wieder",
    "A job has failed": "Ein Auftrag ist gescheitert",
    "A job has failed: {job}": "Ein Auftrag ist gescheitert: {job}",
    "A part of the project cannot be read": "Ein Teil des Projekts kann nicht gelesen werden",
    "See images": "Bilder ansehen",
    "Decide": "Entscheiden",
    "See": "Ansehen",
    # set aside
    "Set aside": "Zurückgestellt",
    "What could not be processed waits here, and stops nothing else.": (
        "Was nicht verarbeitet werden konnte, wartet hier und hält nichts anderes auf."
    ),
    "What": "Was",
    "Why": "Warum",
    "Tries": "Versuche",
    "Since": "Seit",
    "image": "Bild",
    "event": "Ereignis",
    "step": "Schritt",
    "job": "Auftrag",
    "Try all of it again:": "Alles noch einmal versuchen:",
    "Nothing is set aside.": "Nichts ist zurückgestellt.",
    # changes
    "Retrain": "Neu trainieren",
    "Roll back": "Zurücknehmen",
    "Promote": "Einsetzen",
    "Promote {version}": "{version} einsetzen",
    "Train": "Trainieren",
    "Cancel": "Abbrechen",
    "Back": "Zurück",
    "Serve version {version} from now on?": "Version {version} ab jetzt einsetzen?",
    "How it was decided after its training": "Wie nach ihrem Training entschieden wurde",
    "Hierarchical F1 on the same images, after its training": (
        "Hierarchisches F1 auf denselben Bildern, nach dem Training"
    ),
    "Open tasks get the suggestions of this version. Labels stay as they are.": (
        "Offene Aufgaben bekommen die Vorschläge dieser Version. Labels bleiben, wie sie sind."
    ),
    "Serve version {version} again?": "Version {version} wieder einsetzen?",
    "Undo the last promotion?": "Den letzten Einsatz zurücknehmen?",
    "Version {champion} is served now. Version {previous} was served before, and is served again, with its backbone if "
    "both were promoted together.": (
        "Version {champion} ist im Einsatz. Version {previous} war es zuvor und wird es wieder, mit ihrem Backbone, "
        "wenn beide zusammen eingesetzt wurden."
    ),
    "No version was served before. Look-alikes alone vote again.": (
        "Zuvor war keine Version im Einsatz. Wieder stimmen nur ähnliche Bilder ab."
    ),
    "Open tasks get other suggestions. Labels stay as they are.": (
        "Offene Aufgaben bekommen andere Vorschläge. Labels bleiben, wie sie sind."
    ),
    "Train a new version now?": "Jetzt eine neue Version trainieren?",
    "1 image has an accepted label.": "1 Bild hat ein akzeptiertes Label.",
    "{count} images have an accepted label.": "{count} Bilder haben ein akzeptiertes Label.",
    "1 label has changed since the last training.": "1 Label hat sich seit dem letzten Training geändert.",
    "{count} labels have changed since the last training.": (
        "{count} Labels haben sich seit dem letzten Training geändert."
    ),
    "The new version is served if it is not clearly worse than the served one.": (
        "Die neue Version wird eingesetzt, wenn sie nicht deutlich schlechter ist als die jetzige."
    ),
    "The training will wait: labels name nodes that are gone, and a person has to decide about them first.": (
        "Das Training wird warten: Labels nennen Knoten, die es nicht mehr gibt, und ein Mensch muss zuerst darüber "
        "entscheiden."
    ),
    "A training waits. It starts within a minute where the worker runs.": (
        "Ein Training wartet. Es beginnt innerhalb einer Minute, wenn der Worker läuft."
    ),
    "The version is served now.": "Die Version ist jetzt im Einsatz.",
    "The former version is served again.": "Die frühere Version ist wieder im Einsatz.",
    **EVALUATION,
    **BULK,
}
