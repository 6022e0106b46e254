using System.Text.RegularExpressions;
using PciOperator.Testing;

namespace PciOperator.Tests.Monitoring;

/// <summary>Each alert fires when what it is for happens, and not before, by what the real programs show.</summary>
[Collection(MonitoringLab.Shared)]
public sealed partial class AlertTests(MonitoringLab lab)
{
    private const int TwoHours = 120;
    private const string CacheStale = "PciControllerCacheStale";
    private const string NoLeader = "PciControllerNoLeader";

    // Caches of a server that is there are never old: it says so each minute. Of them StaleCacheTests look at one that is.
    private static bool OfCaches(string metric) => metric == "pcioperator_watch_cache_last_success_timestamp_seconds";

    [Fact]
    public async Task In_a_cluster_that_is_well_nothing_fires()
    {
        Assert.Equal([], await Alerts.FiringAsync(lab.Well, TwoHours, OfCaches));
    }

    [Fact]
    public async Task Each_alert_fires_whose_cause_is_there()
    {
        IEnumerable<string> caused = Alerts.All.Select(a => a.Name).Except([CacheStale, NoLeader]).Order(StringComparer.Ordinal);
        Assert.Equal(caused, await Alerts.FiringAsync(lab.Troubled, TwoHours, OfCaches));
    }

    [Fact]
    public async Task Without_a_leader_only_that_is_said_of_the_cluster()
    {
        IReadOnlyList<string> firing = await Alerts.FiringAsync(lab.Leaderless, TwoHours, OfCaches);
        Assert.Equal([NoLeader, "PciObjectUnreadable"], firing);
        Assert.DoesNotContain(lab.Leaderless[0].Samples, s => s.Name is "pcioperator_claims" or "pcioperator_node_agent_ready");
    }

    [Fact]
    public async Task A_cache_that_hears_nothing_is_said()
    {
        await using ClockedController clocked = await ClockedController.StartAsync(1);
        clocked.Time.Advance(TimeSpan.FromMinutes(11));
        Scrape scrape = await Scrape.OfAsync(clocked.Metrics, "controller", clocked.Time.GetUtcNow());
        Assert.Contains(CacheStale, await Alerts.FiringAsync([scrape], 5));
    }

    [Fact]
    public async Task The_rules_are_well_formed_and_say_what_they_are_to_say()
    {
        (int code, string said) = await Promtool.RunAsync(null, "check", "rules", Alerts.Rules);
        Assert.True(code == 0, said);
        string tests = Path.Combine(Kubectl.Repository, "tests", "PciOperator.Tests", "Monitoring", "alerts-test.yaml");
        (code, said) = await Promtool.RunAsync(null, "test", "rules", tests);
        Assert.True(code == 0, said);
        string text = await File.ReadAllTextAsync(tests);
        Assert.All(Alerts.All, a => Assert.Contains($"- name: {a.Name}\n", text, StringComparison.Ordinal));
    }

    [Fact]
    public async Task What_the_programs_show_is_as_Prometheus_wants_it()
    {
        foreach (Scrape scrape in lab.Well.Concat(lab.Troubled).Concat(lab.Leaderless).DistinctBy(s => s.Text))
        {
            (int code, string said) = await Promtool.RunAsync(scrape.Text, "check", "metrics");
            Assert.True(code == 0 && said.Length == 0, $"{scrape.Instance}: {said}");
        }
    }

    [Fact]
    public void Every_metric_and_label_of_alerts_and_dashboard_is_shown()
    {
        var families = lab
            .Troubled.SelectMany(s => s.Families())
            .GroupBy(f => f.Name)
            .ToDictionary(g => g.Key, g => g.SelectMany(f => f.Labels).ToHashSet());
        foreach (string expression in Dashboard.Expressions().Concat(Alerts.All.Select(a => a.Expression)))
        {
            var own = new HashSet<string>();
            Assert.Matches(Selector(), By().Replace(expression, " "));
            foreach (Match selector in Selector().Matches(By().Replace(expression, " ")))
            {
                string name = selector.Groups[1].Value;
                string family = families.ContainsKey(name) ? name : Part().Replace(name, "");
                Assert.True(families.TryGetValue(family, out HashSet<string>? labels), $"nobody shows {name}: {expression}");
                own.UnionWith(labels);
                foreach (Match label in Matcher().Matches(selector.Groups[2].Value))
                    Assert.True(labels.Contains(label.Groups[1].Value), $"{name} has no label {label.Groups[1].Value}: {expression}");
            }

            // What Prometheus itself says of who was scraped, and a histogram's own.
            own.UnionWith(["namespace", "pod", "instance", "le"]);
            foreach (Match by in By().Matches(expression))
            {
                Assert.All(
                    by.Groups[1].Value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries),
                    l => Assert.Contains(l, own)
                );
            }
        }
    }

    [GeneratedRegex(@"\b([a-z]+_[a-z0-9_]+)(?![a-z0-9_]*\()(\{[^}]*\})?")]
    private static partial Regex Selector();

    [GeneratedRegex("_(bucket|count|sum)$")]
    private static partial Regex Part();

    [GeneratedRegex("""(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*""")]
    private static partial Regex Matcher();

    [GeneratedRegex(@"\b(?:by|on)\s*\(([^)]*)\)")]
    private static partial Regex By();
}
