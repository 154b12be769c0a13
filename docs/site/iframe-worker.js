// A browser starts no worker for a page from file://. There the search's worker runs in a hidden frame instead,
// which gives it the few names that it takes from a worker. MkDocs would fetch such a script from elsewhere.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    frame.title = "Search";
    document.body.append(frame);
    this.inside = frame.contentWindow;
    this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    const script = this.inside.document.createElement("script");
    script.src = url;
    this.ready = new Promise((resolve) => script.addEventListener("load", resolve));
    this.inside.document.head.append(script);
  }

  postMessage(data) {
    this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })));
  }
}
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = IFrameWorker; // the search looks for the first of these names
}
