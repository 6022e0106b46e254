using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using PciOperator.Testing;
using YamlDotNet.RepresentationModel;

namespace PciOperator.Tests.Monitoring;

/// <summary>One alert of config/monitoring/alerts.yaml.</summary>
internal sealed record Alert(
    string Name,
    string Expression,
    string For,
    string Severity,
    string Summary,
    string Description,
    string Runbook
);

/// <summary>The rules of config/monitoring, and which of them fire.</summary>
internal static partial class Alerts
{
    public static readonly string Folder = Path.Combine(Kubectl.Repository, "config", "monitoring");

    public static readonly string Rules = Path.Combine(Folder, "alerts.yaml");

    public static IReadOnlyList<Alert> All { get; } =
    [
        .. ((YamlSequenceNode)Helm.Read(File.ReadAllText(Rules))[0]["groups"])
            .SelectMany(g => (YamlSequenceNode)g["rules"])
            .Select(r => new Alert(
                $"{r["alert"]}",
                $"{r["expr"]}",
                $"{r["for"]}",
                $"{r["labels"]["severity"]}",
                $"{r["annotations"]["summary"]}",
                $"{r["annotations"]["description"]}",
                $"{r["annotations"]["runbook_url"]}"
            )),
    ];

    /// <summary>
    /// Which alerts fire when what was scraped goes on being so for some time: Prometheus' own evaluation of the rules over the scraped series.
    /// Timestamps are moved so that the scrape is at its time 0.
    /// </summary>
    /// <param name="scrapes">What was scraped, of each program once.</param>
    /// <param name="minutes">How long it goes on.</param>
    /// <param name="goesOn">Timestamps that move on with the time, since what they tell of goes on too.</param>
    public static async Task<IReadOnlyList<string>> FiringAsync(
        IReadOnlyList<Scrape> scrapes,
        int minutes,
        Func<string, bool>? goesOn = null
    )
    {
        var named = All.SelectMany(a => Metric().Matches(a.Expression)).Select(m => m.Value).ToHashSet();
        StringBuilder test = new StringBuilder()
            .AppendLine(CultureInfo.InvariantCulture, $"rule_files: ['{Rules}']")
            .AppendLine("evaluation_interval: 1m")
            .AppendLine("tests:")
            .AppendLine("  - interval: 1m")
            .AppendLine("    input_series:");
        foreach (Scrape scrape in scrapes)
        {
            foreach (Sample sample in scrape.Samples.Where(s => named.Contains(s.Name)))
            {
                bool isTime = sample.Name.EndsWith("_timestamp_seconds", StringComparison.Ordinal);
                double value = isTime ? Math.Round(sample.Value - (scrape.At.ToUnixTimeMilliseconds() / 1000.0)) : sample.Value;
                string step = goesOn?.Invoke(sample.Name) == true ? "60" : "0";
                string labels = string.Join(
                    ',',
                    sample.Labels.Append(new("instance", scrape.Instance)).Select(l => $"{l.Key}=\"{l.Value}\"")
                );
                test.AppendLine(CultureInfo.InvariantCulture, $"      - series: '{sample.Name}{{{labels}}}'")
                    .AppendLine(CultureInfo.InvariantCulture, $"        values: '{value}+{step}x{minutes}'");
            }
        }

        if (test.ToString().EndsWith("input_series:\n", StringComparison.Ordinal))
            test.AppendLine("      - series: 'nothing'").AppendLine("        values: '0'");
        // An alert of each name, which is what is asked for; the answer is read from what the tool says it got instead.
        test.AppendLine("    promql_expr_test:")
            .AppendLine("      - expr: group by (alertname) (ALERTS{alertstate=\"firing\"})")
            .AppendLine(CultureInfo.InvariantCulture, $"        eval_time: {minutes}m")
            .AppendLine("        exp_samples: [{labels: '{alertname=\"(asked)\"}', value: 1}]");
        string file = Path.GetTempFileName();
        try
        {
            await File.WriteAllTextAsync(file, test.ToString());
            (int code, string said) = await Promtool.RunAsync(null, "test", "rules", file);
            int got = said.IndexOf("got:", StringComparison.Ordinal);
            Assert.True(code == 1 && got > 0, said);
            return [.. Firing().Matches(said[got..]).Select(m => m.Groups[1].Value).Order(StringComparer.Ordinal)];
        }
        finally
        {
            File.Delete(file);
        }
    }

    [GeneratedRegex("(pcioperator|leader_election)_[a-z0-9_]+")]
    private static partial Regex Metric();

    [GeneratedRegex("""alertname="(\w+)""")]
    private static partial Regex Firing();
}
