package admin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

//go:embed web
var web embed.FS

// The page may load nothing from elsewhere and send nothing elsewhere. Its sound
// is a stream of its own making.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"media-src 'self' blob:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes are those of the files that are served; others are not. The
// tables of a machine are not asked: browsers refuse scripts of a wrong type.
var contentTypes = map[string]string{
	".html":  "text/html; charset=utf-8",
	".js":    "text/javascript; charset=utf-8",
	".mjs":   "text/javascript; charset=utf-8",
	".css":   "text/css; charset=utf-8",
	".json":  "application/json; charset=utf-8",
	".svg":   "image/svg+xml",
	".png":   "image/png",
	".ico":   "image/x-icon",
	".woff2": "font/woff2",
	".wav":   "audio/wav",
	".mp3":   "audio/mpeg",
}

// pages adds the browser phone: the page at /, what it loads, and button.js for
// other sites. They hold no secret.
func pages(mux *http.ServeMux) {
	_ = fs.WalkDir(web, "web", func(name string, d fs.DirEntry, err error) error {
		kind := contentTypes[path.Ext(name)]
		if err != nil || d.IsDir() || kind == "" {
			return err
		}
		content, err := fs.ReadFile(web, name)
		if err != nil {
			return err
		}
		address := strings.TrimPrefix(name, "web")
		page := path.Ext(name) == ".html"
		if address == "/index.html" {
			address = "/{$}"
		}
		mux.Handle("GET "+address, file(content, kind, !page))
		return nil
	}) // an embedded file system has no errors
}

// file serves one file. Shared ones are loaded by pages of other sites.
func file(content []byte, kind string, shared bool) http.HandlerFunc {
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("Permissions-Policy", "microphone=(self), camera=(), geolocation=()")
		h.Set("Cache-Control", "no-cache") // kept, and asked about each time
		h.Set("ETag", tag)
		if shared {
			h.Set("Access-Control-Allow-Origin", "*")
			h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		}
		if matches(r.Header["If-None-Match"], tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", kind)
		h.Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content) // the client has gone
	}
}

// matches compares entity tags weakly, RFC 9110 section 13.1.2.
func matches(lines []string, tag string) bool {
	return slices.ContainsFunc(elements(lines), func(s string) bool { return s == "*" || strings.TrimPrefix(s, "W/") == tag })
}
