using System.IO.Compression;
using System.Text.Json;

namespace PciOperator.NovaVectors;

/// <summary>A folder of cases with Nova's answers and the yardstick, each a file of JSON lines (or the same, gzipped).</summary>
public sealed class VectorSet
{
    private readonly List<JsonElement> cases;
    private readonly List<JsonElement> expected;
    private readonly Dictionary<string, JsonElement> exact;
    private readonly List<JsonElement> opsCases;
    private readonly List<JsonElement> opsExpected;

    private VectorSet(string folder)
    {
        cases = Lines(folder, "cases.jsonl", true);
        expected = Lines(folder, "expected.jsonl", true);
        exact = [];
        foreach (JsonElement line in Lines(folder, "exact.jsonl", true))
            exact[line.GetProperty("id").ToString()] = line;
        opsCases = Lines(folder, "ops_cases.jsonl", false);
        opsExpected = Lines(folder, "ops_expected.jsonl", false);
    }

    public int Cases => cases.Count;

    public int Exact => exact.Count;

    public int Sequences => opsCases.Count;

    /// <summary>Reads a folder.</summary>
    /// <exception cref="InvalidDataException">A line is not JSON, or a file of answers is not as long as its cases.</exception>
    public static VectorSet Read(string folder)
    {
        var set = new VectorSet(folder);
        if (set.cases.Count != set.expected.Count || set.opsCases.Count != set.opsExpected.Count)
        {
            throw new InvalidDataException(
                $"{set.cases.Count} cases have {set.expected.Count} answers, {set.opsCases.Count} sequences {set.opsExpected.Count}; each needs one, in the same order.");
        }
        return set;
    }

    /// <summary>Compares every line.</summary>
    public Report Check()
    {
        var report = new Report(cases.Count, exact.Count, opsCases.Count);
        var unused = new HashSet<string>(exact.Keys);
        for (int i = 0; i < cases.Count; i++)
        {
            string id = cases[i].GetProperty("id").ToString();
            unused.Remove(id);
            JsonElement? yardstick = exact.TryGetValue(id, out JsonElement e) ? e : null;
            report.Add(Guard(id, c => CaseCheck.Run(c, cases[i], expected[i], yardstick)));
        }
        for (int i = 0; i < opsCases.Count; i++)
        {
            string id = opsCases[i].GetProperty("id").ToString();
            report.Add(Guard(id, c => OpsCheck.Run(c, opsCases[i], opsExpected[i])));
        }
        foreach (string id in unused)
            report.Orphan(id);
        return report;
    }

    // An exception is a failure of that line, never of the run.
    private static LineResult Guard(string id, Action<LineResult> check)
    {
        var result = new LineResult(id);
        try
        {
            check(result);
        }
        catch (Exception e)
        {
            result.Fail("crash", "", e.GetType().Name + ": " + e.Message, "the check itself did not get through the line");
        }
        return result;
    }

    private static List<JsonElement> Lines(string folder, string name, bool needed)
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
        var lines = new List<JsonElement>();
        using var reader = new StreamReader(file);
        while (reader.ReadLine() is { } line)
        {
            if (line.Length == 0)
                continue;
            try
            {
                lines.Add(JsonDocument.Parse(line).RootElement);
            }
            catch (JsonException e)
            {
                throw new InvalidDataException($"{path}, line {lines.Count + 1}: {e.Message}", e);
            }
        }
        return lines;
    }
}
