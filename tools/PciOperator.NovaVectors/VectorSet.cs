using System.IO.Compression;
using System.Text.Json;

namespace PciOperator.NovaVectors;

/// <summary>A folder of cases with Nova's answers and the yardstick, each a file of JSON lines (or the same, gzipped).</summary>
public sealed class VectorSet
{
    private readonly List<Line> _cases;
    private readonly List<Line> _expected;
    private readonly List<Line> _exact;
    private readonly List<Line> _opsCases;
    private readonly List<Line> _opsExpected;

    private VectorSet(string folder)
    {
        _cases = Lines(folder, "cases.jsonl", true);
        _expected = Lines(folder, "expected.jsonl", true);
        _exact = Lines(folder, "exact.jsonl", true);
        _opsCases = Lines(folder, "ops_cases.jsonl", false);
        _opsExpected = Lines(folder, "ops_expected.jsonl", false);
    }

    /// <summary>Reads a folder. A line that is not a JSON object is kept as that: it fails, and the others are compared.</summary>
    /// <exception cref="InvalidDataException">A file that must be there is not.</exception>
    public static VectorSet Read(string folder) => new(folder);

    /// <summary>Compares every line. A line of answers, or of the yardstick, that belongs to no case counts as a line that fails.</summary>
    public Report Check()
    {
        var report = new Report(_cases.Count, _exact.Count, _opsCases.Count);
        var yardstick = new Dictionary<string, Line>();
        foreach (Line line in _exact)
        {
            if (line.Value is null || line.Id is null || !yardstick.TryAdd(line.Id, line))
                report.Stray(line.Where, line.Fault ?? "a second line for this case, or one without an id");
        }

        Compare(
            report,
            _cases,
            _expected,
            (result, id, line, nova) => CaseCheck.Run(result, line, nova, yardstick.Remove(id, out Line? exactly) ? exactly.Value : null)
        );
        Compare(report, _opsCases, _opsExpected, (result, _, line, nova) => OpsCheck.Run(result, line, nova));
        foreach (Line line in yardstick.Values)
            report.Stray(line.Where, "a line of the yardstick without a case");
        return report;
    }

    private static void Compare(
        Report report,
        List<Line> cases,
        List<Line> answers,
        Action<LineResult, string, JsonElement, JsonElement> check
    )
    {
        for (int i = 0; i < cases.Count; i++)
        {
            Line line = cases[i];
            Line? answer = i < answers.Count ? answers[i] : null;
            var result = new LineResult(line.Id ?? line.Where);
            report.Add(result);
            if (line.Value is not { } asked || line.Id is null)
                result.Fail("case", "", line.Fault ?? "it has no id", $"{line.Where} is no case");
            else if (answer?.Value is not { } nova)
                result.Fail("answer", answer?.Fault ?? "there is none", "", "each case needs an answer, in the same order");
            else if (answer.Id is { } of && of != line.Id)
                result.Fail("answer", $"is that of case {of}", "", "each case needs an answer, in the same order");
            else
                Guard(result, () => check(result, line.Id, asked, nova));
        }

        for (int i = cases.Count; i < answers.Count; i++)
            report.Stray(answers[i].Where, "an answer without a case");
    }

    // An exception is a failure of that line, never of the run.
    private static void Guard(LineResult result, Action check)
    {
        try
        {
            check();
        }
        catch (Exception e)
        {
            result.Fail("crash", "", e.GetType().Name + ": " + e.Message, "the check itself did not get through the line");
        }
    }

    private static List<Line> Lines(string folder, string name, bool needed)
    {
        string path = Path.Combine(folder, name);
        Stream file;
        if (File.Exists(path))
            file = File.OpenRead(path);
        else if (File.Exists(path + ".gz"))
            file = new GZipStream(File.OpenRead(path + ".gz"), CompressionMode.Decompress);
        else if (needed)
            throw new InvalidDataException($"{path} is not there.");
        else
            return [];
        var lines = new List<Line>();
        using var reader = new StreamReader(file);
        for (int number = 1; reader.ReadLine() is { } text; number++)
        {
            if (!string.IsNullOrWhiteSpace(text))
                lines.Add(Line.Of($"{name}:{number}", text));
        }

        return lines;
    }

    // A line that is not blank: what it holds, or why it holds nothing.
    private sealed record Line(string Where, JsonElement? Value, string? Id, string? Fault)
    {
        public static Line Of(string where, string text)
        {
            try
            {
                JsonElement value = JsonDocument.Parse(text).RootElement;
                return value.ValueKind == JsonValueKind.Object
                    ? new Line(where, value, value.TryGetProperty("id", out JsonElement id) ? id.ToString() : null, null)
                    : new Line(where, null, null, "it is not a JSON object");
            }
            catch (JsonException e)
            {
                return new Line(where, null, null, $"it is not JSON: {e.Message}");
            }
        }
    }
}
