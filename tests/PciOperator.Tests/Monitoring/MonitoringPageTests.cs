using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using PciOperator.Testing;

namespace PciOperator.Tests.Monitoring;

/// <summary>docs/monitoring.md and docs/runbook.md: tables are what the programs show and the rules say; commands are run. PCI_GOLDEN=1 writes the tables.</summary>
[Collection(MonitoringLab.Shared)]
public sealed partial class MonitoringPageTests(MonitoringLab lab)
{
    private static readonly string Page = Path.Combine(Kubectl.Repository, "docs", "monitoring.md");
    private static readonly string Runbook = Path.Combine(Kubectl.Repository, "docs", "runbook.md");

    [Fact]
    public async Task The_reference_of_metrics_is_what_controller_and_agents_show()
    {
        var programs = lab
            .Well.Concat(lab.Troubled)
            .SelectMany(s => s.Families().Select(f => (Program: s.Instance == "controller" ? "controller" : "agent", Family: f)))
            .ToList();
        // Of a metric without samples nobody can say what labels it has.
        var samples = lab.Well.Concat(lab.Troubled).SelectMany(s => s.Samples.Select(m => m.Name)).ToHashSet();
        Assert.Equal(
            [],
            programs.Select(p => p.Family.Name).Where(n => !samples.Contains(n) && !samples.Contains(n + "_count")).Distinct()
        );
        var table = new StringBuilder("| metric | type | labels | of | what it says |\n|---|---|---|---|---|\n");
        foreach (
            IGrouping<string, (string Program, Family Family)> metric in programs
                .GroupBy(p => p.Family.Name)
                .OrderBy(g => g.Key, StringComparer.Ordinal)
        )
        {
            Family family = metric.First().Family;
            string labels = string.Join(", ", metric.SelectMany(m => m.Family.Labels).Distinct().Select(l => $"`{l}`"));
            table.Append(
                CultureInfo.InvariantCulture,
                $"| `{metric.Key}` | {family.Type} | {labels} | {string.Join(", ", metric.Select(m => m.Program).Distinct().Order(StringComparer.Ordinal))} | {family.Help} |\n"
            );
        }

        await HoldsAsync("metrics", table.ToString());
    }

    [Fact]
    public async Task The_reference_of_alerts_is_what_the_rules_say()
    {
        var table = new StringBuilder("| alert | severity | fires after | when |\n|---|---|---|---|\n");
        foreach (Alert alert in Alerts.All)
        {
            table.Append(
                CultureInfo.InvariantCulture,
                $"| [{alert.Name}](runbook.md#{alert.Name.ToLowerInvariant()}) | {alert.Severity} | {alert.For} | `{alert.Expression.Replace("|", "\\|", StringComparison.Ordinal)}` |\n"
            );
        }

        await HoldsAsync("alerts", table.ToString());
    }

    [Fact]
    public async Task Each_alert_has_its_chapter_in_the_runbook()
    {
        string text = await File.ReadAllTextAsync(Runbook);
        var chapters = text.Split("\n## ").Skip(1).ToDictionary(c => c.Split('\n')[0]);
        Assert.Equal(Alerts.All.Select(a => a.Name), chapters.Keys);
        foreach (Alert alert in Alerts.All)
        {
            Assert.Equal($"docs/runbook.md#{alert.Name.ToLowerInvariant()}", alert.Runbook);
            Assert.Contains("**What it means.** ", chapters[alert.Name], StringComparison.Ordinal);
            Assert.Contains("**See it.** ", chapters[alert.Name], StringComparison.Ordinal);
            Assert.Contains("**What to do.** ", chapters[alert.Name], StringComparison.Ordinal);
        }
    }

    public static TheoryData<string> Pages =>
        [.. TestScope.Share(["runbook.md", "monitoring.md", "troubleshooting.md", "concepts.md", "numa-and-groups.md", "sriov.md"], 3)];

    [Theory]
    [MemberData(nameof(Pages))]
    public async Task The_commands_of_a_page_run_in_the_cluster_where_the_alerts_fire(string page)
    {
        string text = await File.ReadAllTextAsync(Path.Combine(Kubectl.Repository, "docs", page));
        var commands = Command()
            .Matches(text)
            .Select(m => m.Groups[1].Value)
            .Where(c => !c.StartsWith("kubectl apply", StringComparison.Ordinal))
            .Distinct()
            .ToList();
        Assert.NotEmpty(commands);
        string folder = Directory.CreateTempSubdirectory("pcioperator-page-").FullName;
        try
        {
            foreach (string command in commands)
            {
                string[] words =
                [
                    .. Word()
                        .Matches(command)
                        .Skip(1)
                        .Select(w => w.Value.Replace("'", "", StringComparison.Ordinal))
                        .Select(w =>
                            w.Replace("NODE", "node-3", StringComparison.Ordinal)
                                .Replace("NAMESPACE", "default", StringComparison.Ordinal)
                                .Replace("CLAIM", "disk-1", StringComparison.Ordinal)
                                .Replace("ALIAS", "nvme", StringComparison.Ordinal)
                                .Replace("ADDRESS", "0000:22:00.0", StringComparison.Ordinal)
                        )
                        .Select(w => w.EndsWith(".tar.gz", StringComparison.Ordinal) ? Path.Combine(folder, w) : w),
                ];
                (int code, string said) =
                    words[0] == "pci" ? await PluginAsync(words[1..]) : await Kubectl.TryAsync(lab.KubeconfigText, null, words);
                Assert.True(code == 0, $"{command}: {said}");
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>The plugin, as a program; that it finds something wrong is no failure here.</summary>
    private async Task<(int Code, string Said)> PluginAsync(string[] words)
    {
        const int found = 8;
        string program = Path.Combine(AppContext.BaseDirectory, "kubectl-pci.dll");
        (int code, string said) = await Kubectl.TryProgramAsync("dotnet", lab.KubeconfigText, null, [program, .. words]);
        return (code == found ? 0 : code, said);
    }

    private static async Task HoldsAsync(string part, string table)
    {
        string text = await File.ReadAllTextAsync(Page);
        string begin = $"<!-- {part} -->\n",
            end = $"<!-- end of {part} -->";
        int from = text.IndexOf(begin, StringComparison.Ordinal) + begin.Length,
            to = text.IndexOf(end, StringComparison.Ordinal);
        if (Environment.GetEnvironmentVariable("PCI_GOLDEN") == "1")
            await File.WriteAllTextAsync(Page, text[..from] + table + text[to..]);
        else
            Assert.Equal(table, text[from..to]);
    }

    [GeneratedRegex("^    (kubectl .*)$", RegexOptions.Multiline)]
    private static partial Regex Command();

    [GeneratedRegex("(?:'[^']*'|[^ '])+")]
    private static partial Regex Word();
}
