// What the panel may do in the page of Label Studio around it, where both have one origin. Label Studio's editor keeps
// its state in `parent.Htx`; where it is not as expected, there is no bridge, and nothing fails.
"use strict";

const LabelStudio = (() => {
  const frame = () => {
    try {
      return window.parent !== window ? window.frameElement : null;
    } catch {
      return null; // another origin
    }
  };

  const quietly = (ask, otherwise) => {
    try {
      return ask();
    } catch {
      return otherwise;
    }
  };

  const isConnected = () => Boolean(frame()?.isConnected);
  const store = () => (isConnected() ? (window.parent.Htx ?? null) : null);

  const canonical = (address) => {
    let text = String(address ?? "");
    for (let times = 0; times < 3; times += 1) {
      const decoded = quietly(() => decodeURIComponent(text), text);
      if (decoded === text) break;
      text = decoded;
    }
    return text;
  };

  const shownImage = () => canonical(window.location.href.split("&src=").slice(1).join("&src="));

  // The annotation that the person edits, null where there is none or where it cannot be changed.
  const annotation = () =>
    quietly(() => {
      const open = store().annotationStore.selected;
      const isOpen = open && open.type === "annotation" && open.editable === true && !open.isReadOnly();
      return isOpen && !store().annotationStore.viewingAll ? open : null;
    }, null);

  const leaves = (control) => {
    const found = [];
    const visit = (tag) => {
      if (tag.type === "choice") found.push(tag);
      for (const child of tag.children ?? []) visit(child);
    };
    for (const child of control.children) visit(child);
    return found.filter((choice) => !choice.isSkipped && choice.isLeaf);
  };

  const asPath = (value) => (Array.isArray(value) ? value : [value]);
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  // The paths that are chosen now, null where the control is not as expected.
  const chosen = (open, name) =>
    quietly(() => {
      const control = open.names.get(name);
      if (control.type === "taxonomy") return control.selected.map((path) => [...path]);
      if (control.type !== "choices") return null;
      return leaves(control)
        .filter((choice) => choice.sel === true)
        .map((choice) => asPath(choice.resultValue));
    }, null);

  // The control, null where it is not as expected, where it is hidden or cannot be changed, or where the image that it
  // labels is not the panel's: the stream may have moved on.
  const control = (open, name, image) =>
    quietly(() => {
      const found = open.names.get(name);
      const shown = open.names.get(image);
      const isUsable =
        (found.type === "taxonomy" ? typeof found.onChange === "function" : found.type === "choices") &&
        found.toname === image &&
        shown.type === "image" &&
        canonical(shown.parsedValue ?? shown._value) === shownImage() &&
        found.isVisible !== false &&
        !found.isReadOnly?.();
      return isUsable && chosen(open, name) !== null ? found : null;
    }, null);

  const choicesOf = (found, paths) =>
    paths.map((path) => leaves(found).find((choice) => same(asPath(choice.resultValue), path)));

  // Whether the open annotation can get these labels: {control: {paths, image}}.
  const canSet = (labels) => {
    const open = annotation();
    if (!open) return false;
    return Object.entries(labels).every(([name, { paths, image }]) => {
      const found = control(open, name, image);
      if (!found) return false;
      return found.type === "taxonomy" || quietly(() => choicesOf(found, paths).every(Boolean), false);
    });
  };

  // Whether the open annotation has exactly these labels.
  const has = (labels) => {
    const open = annotation();
    if (!open) return false;
    return Object.entries(labels).every(([name, { paths }]) => {
      const now = chosen(open, name);
      return now !== null && same([...now].sort(), [...paths].sort());
    });
  };

  const set = (labels) => {
    if (!canSet(labels) || has(labels)) return false;
    const open = annotation();
    for (const [name, { paths, image }] of Object.entries(labels)) {
      const found = control(open, name, image);
      if (found.type === "taxonomy") {
        found.onChange(
          null,
          paths.map((path) => ({ path })),
        );
      } else {
        const wanted = choicesOf(found, paths);
        found.resetSelected();
        for (const choice of wanted) choice.setSelected(true);
        found.updateResult();
      }
    }
    return true;
  };

  // Whether this person has submitted an annotation of the open task.
  const hasSubmitted = () =>
    quietly(() => {
      const { annotationStore, user } = store();
      return annotationStore.annotations.some(
        (one) => one.type === "annotation" && one.pk && (one.user?.id === user?.id || one.sentUserGenerate),
      );
    }, false);

  // The document of Label Studio's page, null where it has another origin.
  const page = () => quietly(() => (isConnected() ? window.parent.document : null), null);

  return { canSet, frame, has, hasSubmitted, page, set };
})();
