/* The theme searches in a worker, and browsers start none from a file: there a hidden frame does the same work.
   `mkdocs.yml` names this file in place of the script of another host that the theme's offline plugin would load. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      // Opened, so that no browser puts another empty page in its place later.
      inside.document.open();
      inside.document.write("<!doctype html><title>Search</title>");
      inside.document.close();
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.ready = new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.src = new URL(address, location.href);
        script.onload = () => resolve(inside);
        script.onerror = () => reject(new Error(`${script.src} cannot be loaded`));
        inside.document.head.append(script);
      });
    }

    postMessage(data) {
      const message = { data: structuredClone(data) };
      this.ready.then((inside) => inside.dispatchEvent(new MessageEvent("message", message)));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
