using System.IO.Compression;
using System.Text.Json;
using PciOperator.Core;
using PciOperator.Nova;

namespace PciOperator.Import.Tests;

/// <summary>
/// What oslo.config (9.0) itself made of 3,000 odd files. Most have a second; each is read after <see cref="Before"/>.
/// </summary>
public class OsloFileTests
{
    private const string Before = "[DEFAULT]\nmy_ip = 192.0.2.1\nhost_3 = h3\n[filter_scheduler]\nkind: k\n";

    // What the program that was asked has options of.
    private static readonly HashSet<OsloName> Known =
    [
        new("DEFAULT", "my_ip"),
        new("DEFAULT", "host_3"),
        new("filter_scheduler", "kind"),
        new("pci", "report_in_placement"),
    ];

    private static readonly Dictionary<string, OsloName[]> Options = new()
    {
        ["alias"] = [new("pci", "alias"), new("DEFAULT", "pci_alias")],
        ["device_spec"] = [new("pci", "device_spec"), new("pci", "passthrough_whitelist"), new("DEFAULT", "pci_passthrough_whitelist")],
    };

    [Fact]
    public void Files_are_read_as_oslo_config_reads_them()
    {
        int lines = 0;
        foreach (string line in Lines())
        {
            lines++;
            using var json = JsonDocument.Parse(line);
            JsonElement expected = json.RootElement;
            List<OsloFile> files = [OsloFile.Parse("before", Before)];
            foreach (JsonElement text in expected.GetProperty("files").EnumerateArray())
                files.Add(OsloFile.Parse($"{files.Count - 1}", text.GetString()!));
            Assert.True(Same(expected, files) is null, $"{line}\n{Same(expected, files)}");
        }

        Assert.Equal(3000, lines);
    }

    // What is otherwise than oslo.config says; null: nothing.
    private static string? Same(JsonElement expected, List<OsloFile> files)
    {
        OsloError? error = files.SelectMany(f => f.Errors.OrderBy(e => e.Line).Take(1)).FirstOrDefault();
        if (expected.TryGetProperty("refused", out JsonElement refused))
        {
            // What is in no group is noticed where it ends there, and named where it begins here.
            bool same =
                error?.File == $"{refused.GetProperty("file").GetInt32()}"
                && (refused.GetProperty("group").GetBoolean() || error.Line == refused.GetProperty("line").GetInt32());
            return same ? null : $"ours: {error}";
        }

        if (error is not null)
            return $"ours: {error}";
        var config = new OsloConfig(files, Known.Contains);
        foreach ((string option, OsloName[] names) in Options)
        {
            string? ours = Values(config, names);
            string? theirs = expected.GetProperty(option) is { ValueKind: JsonValueKind.Array } list
                ? string.Join("|", list.EnumerateArray().Select(v => v.GetString()))
                : null;
            if (ours != theirs)
                return $"{option}\nours:   {ours}\ntheirs: {theirs}";
        }

        return null;
    }

    private static string? Values(OsloConfig config, OsloName[] names)
    {
        try
        {
            return string.Join("|", config.All(names).Select(a => config.Substitute(a, [])));
        }
        catch (SpecFormatException)
        {
            return null;
        }
    }

    private static IEnumerable<string> Lines()
    {
        using var file = new StreamReader(
            new GZipStream(File.OpenRead(Path.Combine(AppContext.BaseDirectory, "Oslo", "files.jsonl.gz")), CompressionMode.Decompress)
        );
        while (file.ReadLine() is { } line)
            yield return line;
    }
}
