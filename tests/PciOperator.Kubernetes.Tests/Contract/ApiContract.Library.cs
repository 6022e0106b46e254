extern alias library;
using System.Text;
using library::k8s;
using k8s.Models;
using library::k8s.Autorest;
using library::k8s.LeaderElection;
using Lib = library::k8s.Models;

namespace PciOperator.Kubernetes.Tests.Contract;

/// <summary>
/// The field's own client beside ours, on the same objects: what one writes the other sees, and the server tells both alike.
/// </summary>
public abstract partial class ApiContract
{
    private library::k8s.Kubernetes LibraryClient()
    {
        using var kubeconfig = new MemoryStream(Encoding.UTF8.GetBytes(Server.KubeconfigText));
        return new library::k8s.Kubernetes(KubernetesClientConfiguration.BuildConfigFromConfigFile(kubeconfig));
    }

    private V1ConfigMap Ours(string name, string value) =>
        new()
        {
            Metadata = new V1ObjectMeta { Name = name, NamespaceProperty = Ns },
            Data = new Dictionary<string, string> { ["d"] = value },
        };

    private Lib.V1ConfigMap Theirs(string name, string value) =>
        new()
        {
            ApiVersion = "v1",
            Kind = "ConfigMap",
            Metadata = new Lib.V1ObjectMeta { Name = name, NamespaceProperty = Ns },
            Data = new Dictionary<string, string> { ["d"] = value },
        };

    [Fact]
    public async Task What_one_client_writes_the_other_s_watch_tells()
    {
        using var library = LibraryClient();
        using var maps = new GenericClient(library, "", "v1", "configmaps", disposeClient: false);
        await using var cache = new WatchCache<V1ConfigMap>(Client, Ns);
        using var changes = new ChangeLog<V1ConfigMap>(cache, m => $"{m.Metadata.Name} {m.Data?["d"]}");
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        var caching = cache.RunAsync(stop.Token);
        await cache.WaitForSyncAsync(Ct);
        await using var seen = maps.WatchNamespacedAsync<Lib.V1ConfigMap>(Ns, cancel: Ct).GetAsyncEnumerator(Ct);

        var made = await library.CoreV1.CreateNamespacedConfigMapAsync(Theirs("theirs", "1"), Ns, cancellationToken: Ct);
        await NextIsAsync("Added theirs 1", ours: true);
        await NextIsAsync("Added theirs 1", ours: false);

        // With the version that the other client was given, so that both mean the same state of it.
        var ours = await Client.UpdateAsync(
            Ours("theirs", "2") with
            {
                Metadata = new V1ObjectMeta
                {
                    Name = "theirs",
                    NamespaceProperty = Ns,
                    ResourceVersion = made.Metadata.ResourceVersion,
                },
            },
            Ct
        );
        await NextIsAsync("Updated theirs 2", ours: true);
        await NextIsAsync("Modified theirs 2", ours: false);

        // Both are told the same of a version that is over.
        made.Data["d"] = "3";
        var stale = await Assert.ThrowsAsync<HttpOperationException>(() =>
            library.CoreV1.ReplaceNamespacedConfigMapAsync(made, "theirs", Ns, cancellationToken: Ct)
        );
        var staleToo = await Assert.ThrowsAsync<ApiException>(() =>
            Client.UpdateAsync(ours with { Metadata = ours.Metadata with { ResourceVersion = made.Metadata.ResourceVersion } }, Ct)
        );
        Assert.Equal(Status(stale), (staleToo.Status.Reason, staleToo.Message, staleToo.Status.Code));

        await library.CoreV1.DeleteNamespacedConfigMapAsync("theirs", Ns, cancellationToken: Ct);
        await NextIsAsync("Deleted theirs 2", ours: true);
        await NextIsAsync("Deleted theirs 2", ours: false);
        await stop.CancelAsync();
        await caching;

        async Task NextIsAsync(string expected, bool ours)
        {
            if (ours)
            {
                // A namespace may have maps of its own.
                string next;
                do next = await changes.NextAsync(Ct);
                while (!next.Contains(" theirs ", StringComparison.Ordinal));
                Assert.Equal(expected, next);
                return;
            }

            do Assert.True(await seen.MoveNextAsync());
            while (seen.Current.Item2.Metadata.Name != "theirs");
            Assert.Equal(expected, $"{seen.Current.Item1} theirs {seen.Current.Item2.Data["d"]}");
        }
    }

    [Fact]
    public async Task What_one_client_applies_the_other_conflicts_with_and_both_are_told_alike()
    {
        using var library = LibraryClient();
        string Json(string value) =>
            $$$"""{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"applied","namespace":"{{{Ns}}}"},"data":{"d":"{{{value}}}"}}""";
        Task<Lib.V1ConfigMap> TheirsAsync(string value, bool? force = null) =>
            library.CoreV1.PatchNamespacedConfigMapAsync(
                new Lib.V1Patch(Json(value), Lib.V1Patch.PatchType.ApplyPatch),
                "applied",
                Ns,
                fieldManager: "library",
                force: force,
                cancellationToken: Ct
            );

        var ours = await Client.ApplyAsync(Ours("applied", "1"), "ours", ct: Ct);
        // The same value is shared between them.
        var shared = await TheirsAsync("1");
        Assert.Equal(ours.Metadata.Uid, shared.Metadata.Uid);
        Assert.Equal(["library", "ours"], shared.Metadata.ManagedFields.Select(f => f.Manager).Order(StringComparer.Ordinal));

        var refused = await Assert.ThrowsAsync<HttpOperationException>(() => TheirsAsync("2"));
        Assert.Equal(System.Net.HttpStatusCode.Conflict, refused.Response.StatusCode);
        var forced = await TheirsAsync("3", force: true);
        Assert.Equal("3", forced.Data["d"]);
        var lost = await Assert.ThrowsAsync<ApiException>(() => Client.ApplyAsync(Ours("applied", "1"), "ours", ct: Ct));
        var (reason, message, code) = Status(refused);
        Assert.Equal((reason, code), (lost.Status.Reason, lost.Status.Code));
        // One names the manager that the other is.
        Assert.Equal(message?.Replace("\"ours\"", "\"library\"", StringComparison.Ordinal), lost.Message);
        Assert.Contains(lost.Status.Details.Causes, c => c is { Reason: "FieldManagerConflict", Field: ".data.d" });

        // Ours back by force, and the library's client reads it.
        await Client.ApplyAsync(Ours("applied", "4"), "ours", force: true, ct: Ct);
        Assert.Equal("4", (await library.CoreV1.ReadNamespacedConfigMapAsync("applied", Ns, cancellationToken: Ct)).Data["d"]);
    }

    [Fact]
    public async Task Of_our_elector_and_the_library_s_on_one_lease_one_leads_at_a_time()
    {
        using var library = LibraryClient();
        var leaders = new Leaders();
        var name = "two-kinds";
        var ours = new LeaderElector(
            Client,
            new LeaseLock
            {
                Namespace = Ns,
                Name = name,
                Identity = "ours",
                LeaseDuration = TimeSpan.FromSeconds(3),
                RenewDeadline = TimeSpan.FromSeconds(2),
                RetryPeriod = TimeSpan.FromMilliseconds(200),
            }
        );
        using var theirs = new library::k8s.LeaderElection.LeaderElector(
            new LeaderElectionConfig(new library::k8s.LeaderElection.ResourceLock.LeaseLock(library, Ns, name, "theirs"))
            {
                LeaseDuration = TimeSpan.FromSeconds(3),
                RenewDeadline = TimeSpan.FromSeconds(2),
                RetryPeriod = TimeSpan.FromMilliseconds(200),
            }
        );
        theirs.OnStartedLeading += () => leaders.Begin("theirs");
        theirs.OnStoppedLeading += () => leaders.End("theirs");

        // Theirs first: ours waits while it is renewed, and takes over when nobody renews it any more. It is never released: the library
        // leaves its lease behind.
        using var stopTheirs = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        var theirRun = theirs.RunUntilLeadershipLostAsync(stopTheirs.Token);
        await leaders.BeganAsync("theirs", Ct);
        using var stopOurs = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        var ourRun = ours.RunAsync(
            async ct =>
            {
                leaders.Begin("ours");
                try
                {
                    await Task.Delay(Timeout.Infinite, ct);
                }
                finally
                {
                    leaders.End("ours");
                }
            },
            stopOurs.Token
        );
        await UntilRenewedAsync(times: 3);
        Assert.False(ours.IsLeader);
        await stopTheirs.CancelAsync();
        await IgnoreAsync(theirRun);
        await leaders.BeganAsync("ours", Ct);
        Assert.Equal("ours", (await library.CoordinationV1.ReadNamespacedLeaseAsync(name, Ns, cancellationToken: Ct)).Spec.HolderIdentity);

        // Theirs again: it reads our lease, and waits until ours is released.
        using var again = new library::k8s.LeaderElection.LeaderElector(
            new LeaderElectionConfig(new library::k8s.LeaderElection.ResourceLock.LeaseLock(library, Ns, name, "again"))
            {
                LeaseDuration = TimeSpan.FromSeconds(3),
                RenewDeadline = TimeSpan.FromSeconds(2),
                RetryPeriod = TimeSpan.FromMilliseconds(200),
            }
        );
        again.OnStartedLeading += () => leaders.Begin("again");
        again.OnStoppedLeading += () => leaders.End("again");
        using var stopAgain = CancellationTokenSource.CreateLinkedTokenSource(Ct);
        var againRun = again.RunUntilLeadershipLostAsync(stopAgain.Token);
        await UntilRenewedAsync(times: 3);
        Assert.False(again.IsLeader());
        await stopOurs.CancelAsync();
        await ourRun;
        await leaders.BeganAsync("again", Ct);
        await stopAgain.CancelAsync();
        await IgnoreAsync(againRun);
        Assert.Empty(leaders.Twice);

        async Task UntilRenewedAsync(int times)
        {
            var lease = await Client.GetAsync<V1Lease>(name, Ns, Ct);
            for (var renewals = 0; renewals < times; )
            {
                await Task.Delay(50, Ct);
                var now = await Client.GetAsync<V1Lease>(name, Ns, Ct);
                if (now?.Spec?.RenewTime != lease?.Spec?.RenewTime)
                    renewals++;
                lease = now;
            }
        }

        static async Task IgnoreAsync(Task running)
        {
            try
            {
                await running;
            }
            catch (OperationCanceledException)
            {
                // As asked.
            }
        }
    }

    /// <summary>What the library keeps of the server's answer: its text.</summary>
    private static (string? Reason, string? Message, int? Code) Status(HttpOperationException error)
    {
        using var status = System.Text.Json.JsonDocument.Parse(error.Response.Content);
        var root = status.RootElement;
        return (root.GetProperty("reason").GetString(), root.GetProperty("message").GetString(), root.GetProperty("code").GetInt32());
    }

    /// <summary>Who leads, and whether ever two did.</summary>
    private sealed class Leaders
    {
        private readonly System.Threading.Channels.Channel<string> _began = System.Threading.Channels.Channel.CreateUnbounded<string>();
        private readonly HashSet<string> _now = [];

        public List<string> Twice { get; } = [];

        public void Begin(string name)
        {
            lock (_now)
            {
                _now.Add(name);
                if (_now.Count > 1)
                    Twice.Add(string.Join(" and ", _now.Order(StringComparer.Ordinal)));
            }

            _began.Writer.TryWrite(name);
        }

        public void End(string name)
        {
            lock (_now)
                _now.Remove(name);
        }

        public async Task BeganAsync(string name, CancellationToken ct) => Assert.Equal(name, await _began.Reader.ReadAsync(ct));
    }
}
