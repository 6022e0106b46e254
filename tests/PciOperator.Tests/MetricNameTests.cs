using System.Text;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;
using Prometheus;

namespace PciOperator.Tests;

/// <summary>Names of what the programs show follow Prometheus' conventions (https://prometheus.io/docs/practices/naming/).</summary>
public sealed partial class MetricNameTests
{
    internal static string Text(CollectorRegistry metrics)
    {
        using var text = new MemoryStream();
        metrics.CollectAndExportAsTextAsync(text).GetAwaiter().GetResult();
        return Encoding.UTF8.GetString(text.ToArray());
    }

    [Fact]
    public async Task The_controllers_metrics_are_named_by_the_conventions()
    {
        await using ClockedController lab = await ClockedController.StartAsync(1);
        string[] some =
        [
            "counter pcioperator_reconcile_total",
            "histogram pcioperator_reconcile_duration_seconds",
            "gauge pcioperator_active_workers",
            "counter pcioperator_placements_total",
            "histogram pcioperator_placement_duration_seconds",
            "counter pcioperator_pcinode_writes_total",
            "counter pcioperator_pcinode_changes_total",
            "gauge pcioperator_watch_cache_objects",
            "counter pcioperator_watch_cache_lists_total",
            "gauge workqueue_depth",
            "histogram workqueue_work_duration_seconds",
        ];
        Hold(Text(lab.Metrics), some);
    }

    [Fact]
    public async Task The_agents_metrics_are_named_by_the_conventions()
    {
        CollectorRegistry metrics = Metrics.NewCustomRegistry();
        SimulatedHost simulated = LabHosts.Create();
        using var client = new EntityClient(
            new k8s.KubernetesClientConfiguration { Host = "https://server/" },
            ResourceJsonContext.WithOwnKinds,
            metrics: metrics
        );
        await using var events = new EventRecorder(client, "pcioperator-agent", "node-1", metrics: metrics);
        var host = new PassthroughHost(simulated.Files, "/var/lib/pcioperator");
        await using var agent = new NodeAgent(
            new NodeAgentOptions { NodeName = "node-1" },
            client,
            host,
            simulated.Files,
            "/var/lib/pcioperator",
            simulated.Uevents,
            TimeProvider.System,
            NullLogger.Instance,
            metrics,
            events
        );
        string[] some =
        [
            "histogram pcioperator_agent_release_duration_seconds",
            "gauge pcioperator_agent_held_assignments",
            "counter pcioperator_agent_status_writes_total",
            "counter pcioperator_agent_vf_receive_bytes_total",
            "counter pcioperator_events_written_total",
            "counter pcioperator_events_dropped_total",
            "gauge pcioperator_watch_cache_unreadable_objects",
        ];
        Hold(Text(metrics), some);
    }

    [Fact]
    public void VFs_traffic_is_read_when_it_is_asked_for_follows_resets_and_goes_with_its_VF()
    {
        CollectorRegistry metrics = Metrics.NewCustomRegistry();
        var time = new FakeTimeProvider();
        SimulatedHost simulated = LabHosts.Create();
        simulated.Files.Write("/sys/bus/pci/devices/0000:21:00.0/sriov_numvfs", "1");
        int reads = 0;
        simulated.Fault = access => reads += access is { Before: true, Path: "rtnetlink/ens1/traffic" } ? 1 : 0;
        var traffic = new VfTrafficMetrics(new VfTrafficReader(simulated.Files, time), time, NullLogger.Instance, metrics);
        Assert.DoesNotContain("address=", Text(metrics), StringComparison.Ordinal);
        PciNodeDevice vf = new()
        {
            Address = "0000:21:10.0",
            ParentAddress = "0000:21:00.0",
            Type = DeviceType.Vf,
            Rule = "spec",
        };
        traffic.Show(new PciNodeStatus { Devices = [vf] });
        Assert.Equal(0, reads);
        time.Advance(TimeSpan.FromSeconds(2));
        Has("3000000");
        Has("3000000");
        Assert.Equal(1, reads);

        simulated.Change("0000:21:00.0", f => f.Sriov!.CountedBytes = 5_000_000);
        time.Advance(TimeSpan.FromSeconds(2));
        Has("5000000");
        simulated.Change("0000:21:00.0", f => f.Sriov!.CountedBytes = 1000);
        time.Advance(TimeSpan.FromSeconds(2));
        Has("1000");
        simulated.Change("0000:21:00.0", f => f.Sriov!.CountedBytes = 0);
        time.Advance(TimeSpan.FromSeconds(2));
        Has("0");

        traffic.Show(new PciNodeStatus());
        time.Advance(TimeSpan.FromSeconds(2));
        Assert.DoesNotContain("address=", Text(metrics), StringComparison.Ordinal);

        void Has(string bytes) =>
            Assert.Contains(
                $"pcioperator_agent_vf_receive_bytes_total{{pf=\"0000:21:00.0\",vf=\"0\",address=\"0000:21:10.0\"}} {bytes}\n",
                Text(metrics),
                StringComparison.Ordinal
            );
    }

    /// <summary>Labels take our own words alone; each of an agent's own is one of them.</summary>
    [Fact]
    public void Every_reason_of_an_agent_is_a_word_that_metrics_and_tenants_know()
    {
        var words = typeof(HoldingReasons).GetFields().Select(f => (string)f.GetRawConstantValue()!).ToList();
        Assert.NotEmpty(words);
        Assert.All(words, w => Assert.Equal(w, TenantWords.Label(w)));
        Assert.Equal("Other", TenantWords.Label("SomethingElse"));
    }

    [Theory]
    [InlineData("# HELP x_count Things.\n# TYPE x_count gauge\nx_count 1\n", "x_count")]
    [InlineData("# HELP x Things.\n# TYPE x counter\nx 1\n", "_total")]
    [InlineData("# HELP x_total Things.\n# TYPE x_total gauge\nx_total 1\n", "_total")]
    [InlineData("# HELP x_milliseconds Time.\n# TYPE x_milliseconds gauge\nx_milliseconds 1\n", "seconds")]
    [InlineData("# HELP pcioperator_Things Things.\n# TYPE pcioperator_Things gauge\npcioperator_Things 1\n", "lower case")]
    [InlineData("# HELP x no sentence\n# TYPE x gauge\nx 1\n", "sentence")]
    [InlineData("# HELP x Durations.\n# TYPE x histogram\nx_sum 1\n", "unit")]
    public void A_name_against_the_conventions_is_found(string text, string why) =>
        Assert.Contains(Breaches(text), breach => breach.Contains(why, StringComparison.Ordinal));

    private static void Hold(string text, string[] some)
    {
        Assert.Empty(Breaches(text));
        var shown = Families(text).Select(f => $"{f.Type} {f.Name}").ToHashSet();
        Assert.Equal([], some.Where(s => !shown.Contains(s)));
    }

    private static IEnumerable<string> Breaches(string text)
    {
        foreach ((string name, string type, string help) in Families(text))
        {
            if (!WellFormed().IsMatch(name))
                yield return $"{name} is not in lower case with single underscores.";
            if (type == "counter" != name.EndsWith("_total", StringComparison.Ordinal))
                yield return $"{name} is a {type}: counters, and nothing else, end in _total.";
            if (
                type == "histogram"
                && !name.EndsWith("_seconds", StringComparison.Ordinal)
                && !name.EndsWith("_bytes", StringComparison.Ordinal)
            )
            {
                yield return $"{name} is a histogram without a unit.";
            }

            if (Reserved().IsMatch(name))
                yield return $"{name} ends as a part of a histogram does.";
            if (OtherUnits().IsMatch(name))
                yield return $"{name} should be in seconds or bytes.";
            if (help is not [(>= 'A' and <= 'Z') or (>= '0' and <= '9'), .., '.'])
                yield return $"{name} is not explained by a sentence: {help}";
        }
    }

    private static IEnumerable<(string Name, string Type, string Help)> Families(string text)
    {
        var helps = text.Split('\n')
            .Where(l => l.StartsWith("# HELP ", StringComparison.Ordinal))
            .Select(l => l.Split(' ', 4))
            .ToDictionary(l => l[2], l => l[3]);
        return text.Split('\n')
            .Where(l => l.StartsWith("# TYPE ", StringComparison.Ordinal))
            .Select(l => l.Split(' '))
            .Select(l => (l[2], l[3], helps[l[2]]));
    }

    [GeneratedRegex("^[a-z][a-z0-9]*(_[a-z0-9]+)*$")]
    private static partial Regex WellFormed();

    [GeneratedRegex("_(count|sum|bucket|created|info)$")]
    private static partial Regex Reserved();

    [GeneratedRegex("_(milliseconds|microseconds|nanoseconds|ms|minutes|hours|kilobytes|kib|megabytes|mib|percent)(_|$)")]
    private static partial Regex OtherUnits();
}
