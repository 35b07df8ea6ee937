package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var digests = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// contents is what lies beside the tree: payloads by the digests in the entries, bodies by those
// in the payloads, and keys by the events that enter them.
type contents struct {
	dir                    string
	hasPayloads, hasBodies bool
	expected               map[string]bool
	needed                 map[string]int64
	redacted               map[string]bool
	keys                   map[string]bool
}

func newContents(dir string) *contents {
	c := &contents{
		dir:         dir,
		hasPayloads: isDir(dir, "payloads"),
		hasBodies:   isDir(dir, "blobs"),
		expected:    map[string]bool{},
		needed:      map[string]int64{},
		redacted:    map[string]bool{},
		keys:        map[string]bool{},
	}
	for _, name := range []string{"checkpoint", "keys"} {
		c.expected[filepath.Join(dir, name)] = true
	}
	return c
}

func isDir(dir, name string) bool {
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && info.IsDir()
}

// payloads reads those of a bundle: nil where the export has none at all.
func (c *contents) payloads(number string, width int) ([][]byte, error) {
	if !c.hasPayloads {
		return nil, nil
	}
	path := filepath.Join(c.dir, "payloads", number)
	c.expected[path] = true
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(data, []byte("\n"))
	if len(lines) != width+1 || len(lines[width]) > 0 {
		return nil, fmt.Errorf("a payload too many or too few in %s", path)
	}
	return lines[:width], nil
}

// event checks an entry that is proven, and the payload that it has, if it is not withheld.
func (c *contents) event(position int64, entry, payload []byte) error {
	var header []any
	if err := json.Unmarshal(entry, &header); err != nil || len(header) != 15 {
		return fmt.Errorf("not the header of an event: %v", err)
	}
	if header[1] != float64(position) {
		return fmt.Errorf("it says that it is position %v", header[1])
	}
	if header[5] == "BodyRedacted" {
		stream := header[2].(string)
		c.redacted["sha256:"+stream[strings.LastIndex(stream, "/")+1:]] = true
	}
	if len(payload) == 0 {
		return nil
	}
	if header[14] != digestOf(payload) {
		return fmt.Errorf("the payload is not the one that was signed")
	}
	var fact struct {
		Key     string
		Objects any
		Results []struct {
			Kept     string
			Observed struct{ Body string }
		}
	}
	// Other types have other fields of these names, and name no bodies by them.
	_ = json.Unmarshal(payload, &fact)
	switch header[5] {
	case "CheckpointKeyAdded":
		c.keys[fact.Key] = true
	case "DesiredRendered", "ObjectsObserved":
		c.need(position, fact.Objects)
	}
	for _, result := range fact.Results {
		c.need(position, result.Kept)
		c.need(position, result.Observed.Body)
	}
	return c.bodies(position, payload)
}

// need notes which bodies must be there: the list of a render, or what was seen of objects.
func (c *contents) need(position int64, of any) {
	switch named := of.(type) {
	case string:
		if _, there := c.needed[named]; named != "" && !there {
			c.needed[named] = position
		}
	case []any:
		for _, each := range named {
			if object, ok := each.(map[string]any); ok {
				c.need(position, object["body"])
				c.need(position, object["kept"])
			}
		}
	}
}

// bodies checks those that a text names, as far as they are there, and what lists among them name.
func (c *contents) bodies(position int64, text []byte) error {
	if !c.hasBodies {
		return nil
	}
	for _, digest := range digests.FindAllString(string(text), -1) {
		path := c.path(digest)
		body, err := os.ReadFile(path)
		if c.expected[path] || os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if digestOf(body) != digest {
			return fmt.Errorf("%s is not the body of its name", path)
		}
		c.expected[path] = true
		var listed []struct {
			Digest string
			Secret bool
		}
		if body[0] != '[' || json.Unmarshal(body, &listed) != nil {
			continue
		}
		for _, each := range listed {
			if !each.Secret {
				c.need(position, each.Digest)
			}
		}
		if err := c.bodies(position, body); err != nil {
			return err
		}
	}
	return nil
}

// complete says which body is missing, and not said to be redacted.
func (c *contents) complete() error {
	for digest, position := range c.needed {
		if c.hasBodies && !c.expected[c.path(digest)] && !c.redacted[digest] {
			return fmt.Errorf("position %d: the body %s is missing", position, digest)
		}
	}
	return nil
}

// verifiers reads the listed keys: those that events enter, where payloads are there.
func (c *contents) verifiers() ([]note.Verifier, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, "keys"))
	if err != nil {
		return nil, err
	}
	var known []note.Verifier
	lines := strings.SplitAfter(string(data), "\n")
	if lines[len(lines)-1] != "" || (len(c.keys) > 0 && len(c.keys) != len(lines)-1) {
		return nil, fmt.Errorf("not the %d keys that events enter, one a line", len(c.keys))
	}
	for _, line := range lines[:len(lines)-1] {
		key := strings.TrimSuffix(line, "\n")
		if len(c.keys) > 0 && !c.keys[key] {
			return nil, fmt.Errorf("no event enters the key %s", key)
		}
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		known = append(known, verifier)
	}
	return known, nil
}

// nothingElse refuses files that nothing vouches for.
func nothingElse(dir string, tree tlog.Tree, what *contents) error {
	for level, count := 0, tree.N; count > 0; level, count = level+1, count/256 {
		for first := int64(0); first < count; first += 256 {
			tile := tlog.Tile{H: 8, L: level, N: first / 256, W: int(min(256, count-first))}
			what.expected[filepath.Join(dir, nameOf(tile))] = true
		}
	}
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !(entry.Type().IsRegular() && what.expected[path]) {
			err = fmt.Errorf("nothing vouches for %s", path)
		}
		return err
	})
}

func (c *contents) path(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(c.dir, "blobs", hex[:2], hex)
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }
