// Returns the annotations of a document with a label to include, or none if any annotation has a label to exclude.
// A label is the name of a node at any level. Invalid values are skipped.
function filterDocumentsByLabels(id, labelsWithTaxonomy, includeLabels, excludeLabels) {
    function pathsOf(annotation) {
        var taxonomy = annotation && annotation.taxonomy;
        if (!Array.isArray(taxonomy)) return [];
        // A single path may stand without the outer list.
        var flat = taxonomy.filter(function (part) { return typeof part === "string"; });
        var paths = taxonomy.filter(Array.isArray);
        return flat.length ? paths.concat([flat]) : paths;
    }
    function hasOneOf(path, labels) {
        return path.some(function (name) { return typeof name === "string" && labels.indexOf(name) >= 0; });
    }
    if (!Array.isArray(labelsWithTaxonomy)) return [];
    var found = [];
    for (var i = 0; i < labelsWithTaxonomy.length; i++) {
        var paths = pathsOf(labelsWithTaxonomy[i]);
        for (var j = 0; j < paths.length; j++) {
            if (hasOneOf(paths[j], excludeLabels)) return [];
            if (hasOneOf(paths[j], includeLabels)) {
                found.push({ annotator_id: labelsWithTaxonomy[i].annotator_id, taxonomy: paths[j] });
            }
        }
    }
    return found;
}
