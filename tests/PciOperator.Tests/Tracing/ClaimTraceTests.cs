using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using k8s.Models;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.Cluster;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests.Tracing;

/// <summary>
/// A claim's trace, as a collector gets it. Listening is the process' own affair, and so are the variables that begin it: these tests run
/// one after the other.
/// </summary>
public sealed partial class ClaimTraceTests
{
    private static readonly string Page = Path.Combine(Kubectl.Repository, "docs", "monitoring.md");

    [Fact]
    public async Task From_claim_to_pod_and_back_there_is_one_trace_whose_id_is_the_claims_UID()
    {
        await using Collector collector = await Collector.StartAsync();
        using IDisposable traces = Listen(collector.Endpoint);
        await using LabCluster lab = await LabCluster.StartAsync(real: false, pods: true);
        await lab.WithNodesAsync(1);
        await lab.WithSamplesAsync();
        SandboxCluster cluster = lab.Cluster;
        await lab.ApplyAsync(
            """
            apiVersion: pcioperator.io/v1alpha1
            kind: PassthroughClaim
            metadata: {name: c, namespace: default}
            spec: {delivery: DRA, requests: [{name: nic, alias: a1, count: 2}, {name: disk, alias: nvme}]}
            ---
            apiVersion: v1
            kind: Pod
            metadata: {name: vm, namespace: default}
            spec:
              resourceClaims: [{name: devices, resourceClaimName: c}]
              containers: [{name: compute, image: i, resources: {claims: [{name: devices}]}}]
            """
        );
        await UntilAsync(
            "the pod to run",
            async () =>
                await cluster.Client.GetAsync<V1Pod>("vm", "default") is { Spec.NodeName: { Length: > 0 } node } pod
                && cluster.Pods[node].Running.ContainsKey(pod.Metadata.Uid)
        );
        PassthroughClaim claim = (await cluster.Client.GetAsync<PassthroughClaim>("c", "default"))!;
        await cluster.Client.DeleteAsync<V1Pod>("vm", "default", new DeleteOptions { GracePeriodSeconds = 0 });
        // A kubelet that asks when the claim is gone finds nothing that it could be of.
        await collector.TraceAsync(claim.Metadata.Uid!, ClaimTrace.TakeBack);
        await cluster.Client.DeleteAsync<PassthroughClaim>("c", "default");
        await UntilAsync("the claim to go", async () => await cluster.Client.GetAsync<PassthroughClaim>("c", "default") is null);

        string[] claims = [.. Spans().Except([ClaimTrace.Vfs])];
        IReadOnlyList<ReceivedSpan> trace = await collector.TraceAsync(claim.Metadata.Uid!, claims);
        ReceivedSpan root = Assert.Single(trace, s => s.ParentId.Length == 0);
        Assert.Equal((ClaimTrace.Root, Guid.Parse(claim.Metadata.Uid!).ToString("N")[16..]), (root.Name, root.SpanId));
        Assert.Equal(claim.Metadata.CreationTimestamp!.Value, root.Start.UtcDateTime);
        string addresses = string.Join(',', claim.Status!.Devices!.Select(d => d.Address));
        Assert.Equal("default", root.Attributes["k8s.namespace.name"]);
        Assert.Equal("c", root.Attributes["pcioperator.claim.name"]);
        Assert.Equal("node-1", root.Attributes["k8s.node.name"]);
        Assert.Equal("a1:2,nvme:1", root.Attributes["pcioperator.alias"]);
        Assert.Equal(addresses, root.Attributes["pcioperator.devices"]);

        // A parent is the root, or the span of a program in whose course it is.
        string[] parts = [ClaimTrace.Assign, ClaimTrace.Reset];
        Assert.All(
            trace.Where(s => s != root && claims.Contains(s.Name) && !parts.Contains(s.Name)),
            s => Assert.Equal(root.SpanId, s.ParentId)
        );
        Assert.All(trace.Where(s => s.Name == ClaimTrace.Assign), s => Assert.Equal(ClaimTrace.Place, ParentOf(s).Name));
        Assert.All(
            trace.Where(s => s.Name == ClaimTrace.Reset),
            s => Assert.Contains(ParentOf(s).Name, new[] { ClaimTrace.Prepare, ClaimTrace.Release })
        );
        // Requests are told of in a span's course, and watches and leases are in nobody's.
        IEnumerable<ReceivedSpan> requests = trace.Where(s => !claims.Contains(s.Name));
        Assert.Contains(requests, s => s.Name == "PATCH" && ParentOf(s).Name == ClaimTrace.Assign);
        Assert.All(requests, s => Assert.Contains(s.Name, new[] { "GET", "PATCH", "PUT", "POST", "DELETE" }));
        Assert.Equal(trace.Count, trace.DistinctBy(s => s.SpanId).Count());
        // A kubelet may ask too early, and of two writes one may come late: those are tried again.
        Assert.All(trace.Where(s => OfWork().IsMatch(s.Name)), s => Assert.Null(s.Error));
        Assert.Contains(trace, s => s.Name == ClaimTrace.Place && s.Attributes["pcioperator.outcome"] == "placed");
        ReceivedSpan prepared = trace.First(s => s.Name == ClaimTrace.Prepare);
        Assert.Equal(("prepared", "node-1"), (prepared.Attributes["pcioperator.outcome"], prepared.Attributes["k8s.node.name"]));
        Assert.True(root.Start <= prepared.Start && prepared.End <= root.End.AddSeconds(1));

        // What is no claim's is a trace of its own.
        ReceivedSpan vfs = (await collector.OfAsync(ClaimTrace.Vfs, s => s.Attributes["pcioperator.devices"] == "0000:21:00.0"))[0];
        Assert.Equal("", vfs.ParentId);
        Assert.Equal("program", root.Resource["service.name"]);
        Assert.Equal("instance", root.Resource["service.instance.id"]);
        Assert.Equal("lab", root.Resource["deployment.environment.name"]);
        Assert.Equal("Bearer x", collector.Headers["authorization"]);

        // The page names all of them, with the attributes that they have.
        string[] told = [.. trace.Append(vfs).Where(s => claims.Contains(s.Name)).SelectMany(s => s.Attributes.Keys).Distinct()];
        string page = await File.ReadAllTextAsync(Page);
        Assert.All(told, a => Assert.Contains($"`{a}`", page, StringComparison.Ordinal));
        Assert.Equal(
            Spans().Order(StringComparer.Ordinal),
            Row().Matches(page).Select(m => m.Groups[1].Value).Order(StringComparer.Ordinal)
        );

        ReceivedSpan ParentOf(ReceivedSpan span) => Assert.Single(trace, s => s.SpanId == span.ParentId);
    }

    [Fact]
    public async Task What_a_guard_refuses_is_an_error_with_its_reason_and_the_claim_has_one_root_all_the_same()
    {
        await using Collector collector = await Collector.StartAsync();
        using IDisposable traces = Listen(collector.Endpoint);
        await using LabCluster lab = await LabCluster.StartAsync(real: false);
        await lab.WithNodesAsync(1);
        await lab.WithSamplesAsync();
        const string drive = "0000:23:00.0";
        SimulatedHost host = lab.Host("node-1");
        host.StartProcess("fio", "/dev/" + Assert.Single(host.Files.List($"/sys/bus/pci/devices/{drive}/nvme")));
        PassthroughClaim claim = await lab.ClaimAsync("disk", "nvme:1");
        await lab.PendingAsync("disk", "node");
        await lab.Cluster.AddNodeAsync("node-2", LabHosts.Create(2), LabHosts.Labels(2));
        await lab.ReadyAsync("disk");

        IReadOnlyList<ReceivedSpan> trace = await collector.TraceAsync(claim.Metadata.Uid!, ClaimTrace.Root);
        ReceivedSpan refused = trace.First(s => s.Name == ClaimTrace.Prepare && s.Attributes["k8s.node.name"] == "node-1");
        Assert.Equal(("rejected", "GuardRefused"), (refused.Attributes["pcioperator.outcome"], refused.Attributes["error.type"]));
        Assert.Contains("fio", refused.Error, StringComparison.Ordinal);
        Assert.Equal("node-2", Assert.Single(trace, s => s.Name == ClaimTrace.Root).Attributes["k8s.node.name"]);
        ReceivedSpan pending = trace.First(s => s.Name == ClaimTrace.Place && s.Error is not null);
        Assert.Equal(("pending", "NoNodeFits"), (pending.Attributes["pcioperator.outcome"], pending.Attributes["error.type"]));
        Assert.Equal(2, trace.Count(s => s.Name == ClaimTrace.Placing));
    }

    [Fact]
    public void While_no_collector_is_named_nobody_listens_and_nothing_is_made()
    {
        var log = new RecordedLog();
        Assert.Null(Traces.Start("program", "instance", ClaimTrace.SourceName, log));
        Assert.False(ClaimTrace.IsOn);
        Assert.Empty(log.Lines);
        string uid = $"{Guid.NewGuid()}";
        Tell(uid);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
            Tell(uid);
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        Assert.Null(Activity.Current);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static void Tell(string uid)
        {
            using Activity? span = ClaimTrace.Start(ClaimTrace.Prepare, uid, "namespace", "name");
            span?.SetTag(ClaimTrace.Devices, string.Join(',', Enumerable.Range(0, 9)));
            using Activity? part = ClaimTrace.StartPart(ClaimTrace.Reset);
            using Activity? alone = ClaimTrace.StartAlone(ClaimTrace.Vfs);
            using Activity? past = ClaimTrace.StartPast(ClaimTrace.Root, uid, "namespace", "name", default, default);
            span.Fail("Reason", "message");
            span.Drop();
        }
    }

    [Fact]
    public async Task A_collector_that_is_not_there_holds_nothing_up_and_is_said_once()
    {
        var log = new RecordedLog();
        using (IDisposable traces = Listen("http://127.0.0.1:1", log))
        {
            ClaimTrace.StartAlone(ClaimTrace.Vfs)!.Dispose();
            await UntilAsync(
                "the warning",
                () => Task.FromResult(log.Lines.Any(l => l.StartsWith("Spans don't arrive", StringComparison.Ordinal)))
            );
            ClaimTrace.StartAlone(ClaimTrace.Vfs)!.Dispose();
        }

        Assert.Single(log.Lines, l => l.StartsWith("Spans don't arrive at http://127.0.0.1:1/", StringComparison.Ordinal));
        Assert.False(ClaimTrace.IsOn);
    }

    [Fact]
    public void An_address_that_is_none_leaves_traces_off_and_says_so()
    {
        var log = new RecordedLog();
        using (With("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"))
            Assert.Null(Traces.Start("program", "instance", ClaimTrace.SourceName, log));
        Assert.Contains("'collector:4317' is no address", Assert.Single(log.Errors), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("traceidratio", "0", false)]
    [InlineData("parentbased_traceidratio", "1", true)]
    [InlineData("always_off", null, false)]
    [InlineData("parentbased_always_on", null, true)]
    [InlineData("odd", null, true)]
    public void A_sampler_takes_all_of_a_claims_spans_or_none(string sampler, string? share, bool takes)
    {
        var log = new RecordedLog();
        using IDisposable name = With("OTEL_TRACES_SAMPLER", sampler);
        using IDisposable argument = With("OTEL_TRACES_SAMPLER_ARG", share);
        using IDisposable traces = Listen("http://127.0.0.1:1", log);
        using Activity? span = ClaimTrace.Start(ClaimTrace.Prepare, $"{Guid.NewGuid()}", "namespace", "name");
        Assert.Equal(takes, span!.Recorded);
        Assert.Equal(sampler == "odd", log.Errors.Any());
    }

    [Theory]
    [InlineData("0f8fad5b-d9cb-469f-a165-70867728950e", "a16570867728950e")]
    [InlineData("0f8fad5b-d9cb-469f-0000-000000000000", "0f8fad5bd9cb469f")]
    [InlineData("00000000-0000-0000-0000-000000000000", null)]
    [InlineData("uid-1", null)]
    public void A_claims_trace_follows_from_its_UID(string uid, string? root)
    {
        ActivityContext? parent = ClaimTrace.ParentOf(uid);
        Assert.Equal(root, parent?.SpanId.ToHexString());
        Assert.Equal(root is null ? null : uid.Replace("-", "", StringComparison.Ordinal), parent?.TraceId.ToHexString());
    }

    /// <summary>The names of spans.</summary>
    private static IEnumerable<string> Spans() =>
        typeof(ClaimTrace)
            .GetFields()
            .Select(f => (string)f.GetRawConstantValue()!)
            .Where(n => n == ClaimTrace.Root || SpanName().IsMatch(n));

    private static IDisposable Listen(string endpoint, ILogger? log = null)
    {
        using IDisposable to = With("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        using IDisposable by = With("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        using IDisposable headers = With("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer x");
        using IDisposable resource = With("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=lab");
        using IDisposable soon = With("OTEL_BSP_SCHEDULE_DELAY", "100");
        return Traces.Start("program", "instance", ClaimTrace.SourceName, log ?? NullLogger.Instance)!;
    }

    private static Restored With(string variable, string? value)
    {
        var restored = new Restored(variable, Environment.GetEnvironmentVariable(variable));
        Environment.SetEnvironmentVariable(variable, value);
        return restored;
    }

    private static async Task UntilAsync(string what, Func<Task<bool>> holds)
    {
        var began = Stopwatch.StartNew();
        while (!await holds())
        {
            Assert.True(began.Elapsed < TimeSpan.FromMinutes(2), $"waited in vain for {what}");
            await Task.Delay(20);
        }
    }

    [GeneratedRegex(@"^(claim|controller|agent|kubelet)\.[a-z]+$")]
    private static partial Regex SpanName();

    [GeneratedRegex("^(claim|agent)")]
    private static partial Regex OfWork();

    [GeneratedRegex(@"^\| `((?:claim|controller|agent|kubelet)(?:\.[a-z]+)?)` \|", RegexOptions.Multiline)]
    private static partial Regex Row();

    private sealed record Restored(string Variable, string? Value) : IDisposable
    {
        public void Dispose() => Environment.SetEnvironmentVariable(Variable, Value);
    }
}
