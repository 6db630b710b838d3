package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// errInstall is wrapped where a part of the engine is missing on this machine.
var errInstall = errors.New("pocketsphinx is not installed")

// sphinx is the engine's library, loaded at run time, and its model.
type sphinx struct {
	model string // folder of the acoustic model
	front string // its settings of the front end, for the telephone
	held  *os.File
	phone string // language model of the phone loop
	words *dictionary

	parsing sync.Mutex // the library's parser of settings is not known to be safe for concurrent use

	args       func() uintptr
	parse      func(into, defs uintptr, argc int32, argv unsafe.Pointer, strict int32) uintptr
	freeConfig func(config uintptr) int32
	open       func(config uintptr) uintptr
	free       func(decoder uintptr) int32
	addWord    func(decoder uintptr, word, phones string, update int32) int32
	setGrammar func(decoder uintptr, name, jsgf string) int32
	setSearch  func(decoder uintptr, name string) int32
	start      func(decoder uintptr) int32
	process    func(decoder uintptr, pcm unsafe.Pointer, n uintptr, noSearch, whole int32) int32
	end        func(decoder uintptr) int32
	hypothesis func(decoder uintptr, score *int32) string
	frames     func(decoder uintptr) int32
}

// loadSphinx loads the library and looks for the model in dir.
func loadSphinx(dir string) (*sphinx, error) {
	base, err := purego.Dlopen("libsphinxbase.so.3", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("%w: load libsphinxbase.so.3: %w: install the package libsphinxbase3", errInstall, err)
	}
	pocket, err := purego.Dlopen("libpocketsphinx.so.3", purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("%w: load libpocketsphinx.so.3: %w: install the package libpocketsphinx3", errInstall, err)
	}
	s := &sphinx{model: filepath.Join(dir, "en-us"), phone: filepath.Join(dir, "en-us-phone.lm.bin")}
	for _, path := range []string{filepath.Join(s.model, "mdef"), s.phone} {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("%w: find model: %w: install the package pocketsphinx-en-us, or write its folder as model", errInstall, err)
		}
	}
	if s.words, err = loadDictionary(filepath.Join(dir, "cmudict-en-us.dict")); err != nil {
		return nil, fmt.Errorf("%w: %w: install the package pocketsphinx-en-us, or write its folder as model", errInstall, err)
	}
	if err := s.telephone(); err != nil {
		return nil, err
	}
	var quiet func(uintptr)
	purego.RegisterLibFunc(&quiet, base, "err_set_logfp")
	quiet(0)
	purego.RegisterLibFunc(&s.parse, base, "cmd_ln_parse_r")
	purego.RegisterLibFunc(&s.freeConfig, base, "cmd_ln_free_r")
	purego.RegisterLibFunc(&s.args, pocket, "ps_args")
	purego.RegisterLibFunc(&s.open, pocket, "ps_init")
	purego.RegisterLibFunc(&s.free, pocket, "ps_free")
	purego.RegisterLibFunc(&s.addWord, pocket, "ps_add_word")
	purego.RegisterLibFunc(&s.setGrammar, pocket, "ps_set_jsgf_string")
	purego.RegisterLibFunc(&s.setSearch, pocket, "ps_set_search")
	purego.RegisterLibFunc(&s.start, pocket, "ps_start_utt")
	purego.RegisterLibFunc(&s.process, pocket, "ps_process_raw")
	purego.RegisterLibFunc(&s.end, pocket, "ps_end_utt")
	purego.RegisterLibFunc(&s.hypothesis, pocket, "ps_get_hyp")
	purego.RegisterLibFunc(&s.frames, pocket, "ps_get_n_frames")
	return s, nil
}

// cepstralMean is where the decoder's normalisation of the channel starts: the
// mean over speech that came through G.711 and pcm.UpsampleImage. The model's
// own value is for 16 kHz; with it the first words of an utterance suffer.
const cepstralMean = "40.40,-11.30,6.86,2.57,3.80,-5.51,0.07,-4.52,-5.76,1.41,-0.91,1.46,-0.34"

// telephone writes the model's settings of the front end with our cepstral mean
// to a file that vanishes with the process: settings given as arguments yield to
// those of a file.
func (s *sphinx) telephone() error {
	own, err := os.ReadFile(filepath.Join(s.model, "feat.params"))
	if err != nil {
		return fmt.Errorf("%w: read settings of the model: %w: install the package pocketsphinx-en-us", errInstall, err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(own)) {
		if !strings.HasPrefix(line, "-cmninit") {
			out.WriteString(line)
		}
	}
	out.WriteString("-cmninit " + cepstralMean + "\n")
	f, err := os.CreateTemp("", "ivrbridge-worker")
	if err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	if _, err := f.WriteString(out.String()); err != nil {
		return errors.Join(fmt.Errorf("write settings: %w", err), f.Close())
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(fmt.Errorf("write settings: %w", err), f.Close())
	}
	s.front, s.held = fmt.Sprintf("/proc/self/fd/%d", f.Fd()), f
	return nil
}

// A decoder hears one utterance. One goroutine uses it.
type decoder struct {
	s   *sphinx
	ptr uintptr
}

// decoder opens a decoder with the given settings besides the model.
func (s *sphinx) decoder(settings ...string) (*decoder, error) {
	settings = append([]string{"ivrbridge-worker", "-hmm", s.model, "-dict", os.DevNull, "-featparams", s.front}, settings...)
	argv := make([]*byte, 0, len(settings)+1)
	for _, a := range settings {
		argv = append(argv, &append([]byte(a), 0)[0])
	}
	argv = append(argv, nil)
	s.parsing.Lock()
	config := s.parse(0, s.args(), int32(len(settings)), unsafe.Pointer(&argv[0]), 1) //nolint:gosec // an array of C strings that is kept alive
	s.parsing.Unlock()
	runtime.KeepAlive(argv)
	if config == 0 {
		return nil, errors.New("settings of the decoder refused")
	}
	defer s.freeConfig(config)
	ptr := s.open(config)
	if ptr == 0 {
		return nil, errors.New("decoder refused its model")
	}
	return &decoder{s: s, ptr: ptr}, nil
}

// grammar gives the decoder its words and what may be said with them.
func (d *decoder) grammar(g *grammar) error {
	for i, w := range g.words {
		update := int32(0)
		if i == len(g.words)-1 {
			update = 1
		}
		if d.s.addWord(d.ptr, w.token, w.phones, update) < 0 {
			return fmt.Errorf("word %q refused: %q", w.text, w.phones)
		}
	}
	if d.s.setGrammar(d.ptr, "turn", g.jsgf) != 0 || d.s.setSearch(d.ptr, "turn") != 0 {
		return errors.New("grammar refused")
	}
	return nil
}

func (d *decoder) begin() error {
	if d.s.start(d.ptr) < 0 {
		return errors.New("decoder did not start")
	}
	return nil
}

// feed takes samples at 16 kHz.
func (d *decoder) feed(pcm []int16) error {
	if len(pcm) == 0 {
		return nil
	}
	if d.s.process(d.ptr, unsafe.Pointer(&pcm[0]), uintptr(len(pcm)), 0, 0) < 0 { //nolint:gosec // the library copies the samples
		return errors.New("decoder refused sound")
	}
	return nil
}

// finish ends the utterance.
func (d *decoder) finish() error {
	if d.s.end(d.ptr) < 0 {
		return errors.New("decoder did not end")
	}
	return nil
}

// best is the most likely path so far: its words, its score, and how many
// frames of 10 ms it covers.
func (d *decoder) best() (words string, score int32, frames int) {
	words = d.s.hypothesis(d.ptr, &score)
	return words, score, int(d.s.frames(d.ptr))
}

func (d *decoder) close() {
	if d != nil && d.ptr != 0 {
		d.s.free(d.ptr)
		d.ptr = 0
	}
}
