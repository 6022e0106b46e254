using System.IO.Compression;
using System.Text;
using System.Text.Json;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Nova;
using PciOperator.NovaVectors;

namespace PciOperator.Import.Tests;

/// <summary>
/// The 1,000 hosts to which Nova's own answers are known, with their specs and aliases written into a nova.conf: what is imported of it gives
/// each device the tags, and each request the verdict, that Nova's texts themselves do.
/// </summary>
public class NovaVectorImportTests
{
    [Fact]
    public void What_is_imported_is_served_as_what_Nova_was_told()
    {
        (int hosts, int served, int refused) = (0, 0, 0);
        foreach (string line in Lines())
        {
            using var json = JsonDocument.Parse(line);
            JsonElement one = json.RootElement;
            var host = VectorHost.Of(VectorHost.List(one, "devices"), VectorHost.List(one, "host_cells"));
            if (Told(one, host) is not { } told)
                continue;
            string conf = Conf(one);
            ImportResult result = NovaConfImport.Read(new NovaConfSource { Files = [new SourceFile("nova.conf", conf)] });
            // A PciAlias has one answer for all of its descriptions; what is refused for that is said.
            if (result.Errors is [var only] && only.Message.Contains("differ in live_migratable", StringComparison.Ordinal))
                continue;
            hosts++;
            Assert.True(result.Errors.Count == 0, $"{conf}\n{string.Join("\n", result.Errors)}");
            (IReadOnlyList<DeviceRule> rules, Dictionary<string, AliasDefinition> aliases) = Read(result);

            Assert.Equal(Matches(host, told.Rules), Matches(host, rules));
            foreach ((string name, AliasDefinition alias) in told.Aliases)
            {
                AliasDefinition ours = aliases[ObjectNames.Label(name, "alias")];
                NodeVerdict theirs = Verdict(host, told.Rules, alias);
                NodeVerdict verdict = Verdict(host, rules, ours);
                Assert.Equal(theirs.GetType(), verdict.GetType());
                _ = verdict is NodeVerdict.Served ? served++ : refused++;
            }
        }

        Assert.True(hosts > 800 && served > 300 && refused > 100, $"{hosts} hosts, {served} served, {refused} refused");
    }

    // Where Nova refuses a text, so does the import: there is nothing to compare.
    private static (IReadOnlyList<DeviceRule> Rules, IReadOnlyDictionary<string, AliasDefinition> Aliases)? Told(
        JsonElement one,
        VectorHost host
    )
    {
        try
        {
            List<DeviceRule> rules =
            [
                .. VectorHost.List(one, "device_specs").EnumerateArray().SelectMany(s => NovaDeviceSpec.Parse(Raw(s))),
            ];
            IReadOnlyDictionary<string, AliasDefinition> aliases = NovaAlias.Join(
                VectorHost.List(one, "aliases").EnumerateArray().Select(a => NovaAlias.Parse(Raw(a)))
            );
            return (rules, aliases);
        }
        catch (SpecFormatException)
        {
            return null;
        }
    }

    private static string Conf(JsonElement one)
    {
        var conf = new StringBuilder("[pci]\n");
        foreach (JsonElement spec in VectorHost.List(one, "device_specs").EnumerateArray())
            conf.Append("device_spec = ").Append(Raw(spec).Replace("$", "$$", StringComparison.Ordinal)).Append('\n');
        foreach (JsonElement alias in VectorHost.List(one, "aliases").EnumerateArray())
            conf.Append("alias = ").Append(Raw(alias).Replace("$", "$$", StringComparison.Ordinal)).Append('\n');
        return conf.ToString();
    }

    private static (IReadOnlyList<DeviceRule> Rules, Dictionary<string, AliasDefinition> Aliases) Read(ImportResult result) =>
        (
            [
                .. result
                    .Objects.Select(o => o.Entity)
                    .OfType<PciDeviceSpec>()
                    .OrderByDescending(s => s.Spec.Priority)
                    .Select(s => s.Spec.ToDeviceRule(s.Metadata.Name)),
            ],
            result.Objects.Select(o => o.Entity).OfType<PciAlias>().ToDictionary(a => a.Metadata.Name, a => a.ToDefinition())
        );

    private static List<string> Matches(VectorHost host, IReadOnlyList<DeviceRule> rules) =>
        [.. DeviceMatcher.Match(host.Functions, rules).OrderBy(m => m.Key).Select(m => $"{m.Key} {Tags(m.Value.Tags)}")];

    private static string Tags(DeviceTags t) =>
        $"{t.PhysicalNetwork} {t.Trusted} {t.RemoteManaged} {t.LiveMigratable} {t.OneTimeUse} {t.Managed} {t.ResourceClass} {string.Join(',', t.Traits)} {string.Join(',', t.Other)}";

    private static NodeVerdict Verdict(VectorHost host, IReadOnlyList<DeviceRule> rules, AliasDefinition alias) =>
        Allocator.TryNode(
            host.ToNode(DeviceMatcher.Match(host.Functions, rules)),
            new ClaimRequirements
            {
                ClaimUid = "uid",
                Requests =
                [
                    new DeviceRequest
                    {
                        Name = "r1",
                        Alias = alias,
                        Count = 2,
                    },
                ],
            }
        );

    private static string Raw(JsonElement e) => e.ValueKind == JsonValueKind.String ? e.GetString()! : e.GetRawText();

    private static IEnumerable<string> Lines()
    {
        using var file = new StreamReader(
            new GZipStream(
                File.OpenRead(Path.Combine(AppContext.BaseDirectory, "NovaVectors", "cases.jsonl.gz")),
                CompressionMode.Decompress
            )
        );
        while (file.ReadLine() is { } line)
            yield return line;
    }
}
