package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v3"

	"github.com/ivrbridge/ivrbridge/internal/secret"
)

const value = "hunter2-hunter2"

type config struct {
	Key    secret.Secret            `yaml:"key" json:"key"`
	Ptr    *secret.Secret           `yaml:"ptr" json:"ptr"`
	List   []secret.Secret          `yaml:"list" json:"list"`
	Map    map[string]secret.Secret `yaml:"map" json:"map"`
	hidden secret.Secret
}

func filled() config {
	s := secret.New(value)
	return config{Key: s, Ptr: &s, List: []secret.Secret{s}, Map: map[string]secret.Secret{"a": s}, hidden: s}
}

func TestNothingPrintsASecret(t *testing.T) {
	c := filled()
	s := c.Key
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10s", "%p"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", []secret.Secret{s})
		fmt.Fprintf(&out, verb+"\n", struct{ Public secret.Secret }{s})
	}
	fmt.Fprintln(&out, s, &s, c.Key, c.List, c.Map, errors.New(s.String()))
	b, err := json.Marshal(c)
	require.NoError(t, err)
	out.Write(b)
	b, err = yaml.Marshal(c)
	require.NoError(t, err)
	out.Write(b)
	var logs bytes.Buffer
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&logs), zap.DebugLevel))
	log.Info("x", zap.Any("a", s), zap.Any("b", c), zap.Stringer("c", s), zap.Reflect("d", c))
	slog.New(slog.NewTextHandler(&logs, nil)).Info("x", "a", s, "b", c)
	out.WriteString(logs.String())
	require.NotContains(t, out.String(), value)
	require.NotContains(t, out.String(), fmt.Sprintf("%x", value))
	require.Contains(t, out.String(), "***")
	require.Equal(t, value, s.Reveal())
	require.True(t, s.Set())
}

// Package fmt reads unexported fields without asking their methods.
func TestNotEvenInsideAnUnexportedField(t *testing.T) {
	c := filled()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		require.NotContains(t, fmt.Sprintf(verb, struct{ inner config }{c}), value, verb)
	}
}

func TestAbsentSecretPrintsNothing(t *testing.T) {
	var s secret.Secret
	require.Empty(t, s.String())
	require.Empty(t, fmt.Sprintf("%v%#v%s", s, s, s))
	require.False(t, s.Set())
	require.Empty(t, s.Reveal())
	require.Equal(t, secret.New(""), s)
	require.NotEqual(t, secret.New(value), s)
	same := map[secret.Secret]bool{secret.New(value): true}
	require.True(t, same[secret.New(strings.Clone(value))], "equal values are equal secrets")
}

func TestReferences(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return "file:" + path
	}
	t.Setenv("IVRBRIDGE_TEST_KEY", " "+value+"\n")
	t.Setenv("IVRBRIDGE_TEST_EMPTY", "")
	tests := []struct{ ref, want, problem string }{
		{"env:IVRBRIDGE_TEST_KEY", value, ""},
		{"env:IVRBRIDGE_TEST_EMPTY", "", "the environment variable IVRBRIDGE_TEST_EMPTY is empty: set it, or write file:PATH"},
		{write("key", value+"\n"), value, ""},
		{write("pem", "-----\n"+value+"\n-----\n"), "-----\n" + value + "\n-----", ""},
		{write("empty", " \n"), "", "is empty"},
		{write("large", strings.Repeat("x", 65<<10)), "", "is longer than 65536 bytes"},
		{write("binary", value+"\x00"), "", "contains a control character"},
		{"file:" + dir, "", "read secret"},
		{"file:" + filepath.Join(dir, "nothing"), "", "no such file"},
		{value, value, ""},
		{"", "", ""},
		{value + "\x1b", "", "the secret contains a control character"},
	}
	for _, tt := range tests {
		var s secret.Secret
		err := s.UnmarshalText([]byte(tt.ref))
		require.Equal(t, tt.want, s.Reveal(), tt.ref)
		if tt.problem == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, tt.problem)
		require.NotContains(t, err.Error(), value)
	}
}

func TestFailedReadKeepsTheOldValue(t *testing.T) {
	s := secret.New(value)
	require.Error(t, s.UnmarshalText([]byte("env:IVRBRIDGE_TEST_NOT_SET")))
	require.Equal(t, value, s.Reveal())
}

func TestParseAsksTheGivenEnvironment(t *testing.T) {
	s, err := secret.Parse("env:A", func(name string) string { return "value of " + name })
	require.NoError(t, err)
	require.Equal(t, "value of A", s.Reveal())
}
