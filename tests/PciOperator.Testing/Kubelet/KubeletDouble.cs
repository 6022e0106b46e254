using System.Collections.Concurrent;
using Grpc.Core;
using Grpc.Net.Client;
using PciOperator.Kubelet;
using PciOperator.Kubelet.Wire.DraHealth;
using PciOperator.Kubelet.Wire.DraV1;
using PciOperator.Kubelet.Wire.PluginRegistration;

namespace PciOperator.Testing;

/// <summary>A ResourceClaim of a pod.</summary>
public sealed record PodClaim(string Namespace, string Name, string Uid);

/// <summary>What a plugin answered for one claim.</summary>
/// <param name="Error">Empty: it was prepared.</param>
/// <param name="Devices">Its devices.</param>
public sealed record PreparedAnswer(string Error, IReadOnlyList<PreparedAnswerDevice> Devices);

/// <summary>One device of an answer.</summary>
public sealed record PreparedAnswerDevice(string Request, string Pool, string Device, IReadOnlyList<string> CdiIds);

/// <summary>
/// A kubelet as a plugin meets it (pkg/kubelet/pluginmanager and cm/dra of Kubernetes 1.36): it watches plugins_registry, dials what appears there,
/// asks what it is, tells whether it took it, asks for claims with a deadline of 45 s, remembers what is prepared until it restarts, and forgets
/// a plugin whose registration socket goes.
/// </summary>
public sealed class KubeletDouble : IAsyncDisposable
{
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(45);
    private static readonly TimeSpan InfoDeadline = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Look = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly string _root;
    private readonly ConcurrentDictionary<string, Plugin> _plugins = new();
    private readonly ConcurrentDictionary<string, (string Pool, string Device, string Health)[]> _health = new();

    // What pods have: known to a kubelet over its restarts (its checkpoint), but not that it was prepared.
    private readonly ConcurrentDictionary<string, (PodClaim Claim, PreparedAnswer? Answer)> _claims = new();
    private CancellationTokenSource? _stop;
    private Task _watching = Task.CompletedTask;

    /// <summary>A kubelet; it is not started.</summary>
    /// <param name="root">Where the host's "/" is on this machine.</param>
    /// <param name="directory">Its folder, on the host.</param>
    public KubeletDouble(string root, string directory = "/var/lib/kubelet") => (_root, Directory) = (root.TrimEnd('/'), directory);

    /// <summary>Its folder, on the host.</summary>
    public string Directory { get; }

    /// <summary>Where plugins show up, on this machine.</summary>
    public string Registry => $"{_root}{Directory}/plugins_registry";

    /// <summary>Why it takes no plugin; null: it does.</summary>
    public string? Refuses { get; set; }

    /// <summary>Every claim that it asked a plugin for, with what it asked.</summary>
    public ConcurrentQueue<(string What, string Uid)> Calls { get; } = new();

    /// <summary>The plugins that it has, by driver; where several are (a rolling update), the newest.</summary>
    public IReadOnlyList<string> Endpoints => [.. _plugins.Values.OrderBy(p => p.Since).Select(p => p.Endpoint)];

    /// <summary>What the drivers said of their devices last.</summary>
    public IReadOnlyList<(string Pool, string Device, string Health)> Health => [.. _health.Values.SelectMany(d => d)];

    /// <summary>Starts it: its folders are made, and what is in plugins_registry is dialled.</summary>
    public void Start()
    {
        System.IO.Directory.CreateDirectory(Registry);
        System.IO.Directory.CreateDirectory($"{_root}{Directory}/plugins");
        _stop = new CancellationTokenSource();
        _watching = WatchAsync(_stop.Token);
    }

    /// <summary>Stops it: what it knew of plugins and of what is prepared is gone; what pods have is not.</summary>
    public async Task StopAsync()
    {
        if (_stop is null)
            return;
        await _stop.CancelAsync();
        await _watching;
        _stop.Dispose();
        _stop = null;
        foreach (string path in _plugins.Keys.ToList())
            Forget(path);
        foreach ((string uid, (PodClaim claim, _)) in _claims)
            _claims[uid] = (claim, null);
    }

    /// <summary>Waits until it has a plugin of a driver.</summary>
    public Task WaitForPluginAsync(string driver) =>
        UntilAsync(() => _plugins.Values.Any(p => p.Driver == driver), $"no plugin of {driver} was registered");

    /// <summary>Waits until it has none.</summary>
    public Task WaitForNoPluginAsync(string driver) =>
        UntilAsync(() => _plugins.Values.All(p => p.Driver != driver), $"the plugin of {driver} did not go");

    /// <summary>Waits until something is so.</summary>
    public static async Task UntilAsync(Func<bool> condition, string orElse)
    {
        for (DateTime end = DateTime.UtcNow + Patience; !condition(); await Task.Delay(Look))
            Assert.True(DateTime.UtcNow < end, orElse);
    }

    /// <summary>A pod starts: what is prepared already is not asked for again.</summary>
    public async Task<PreparedAnswer> StartPodAsync(string driver, PodClaim claim)
    {
        if (_claims.TryGetValue(claim.Uid, out (PodClaim, PreparedAnswer? Answer) known) && known.Answer is { Error: "" } before)
            return before;
        PreparedAnswer answer = (await PrepareAsync(driver, claim))[claim.Uid];
        _claims[claim.Uid] = (claim, answer);
        return answer;
    }

    /// <summary>A pod starts, and its claim is asked for until it is prepared, as a kubelet goes on doing.</summary>
    public async Task<PreparedAnswer> StartPodInTheEndAsync(string driver, PodClaim claim)
    {
        PreparedAnswer answer;
        for (DateTime end = DateTime.UtcNow + Patience; (answer = await TryStartAsync()).Error.Length > 0; await Task.Delay(10 * Look))
            Assert.True(DateTime.UtcNow < end, answer.Error);
        return answer;

        async Task<PreparedAnswer> TryStartAsync()
        {
            try
            {
                return await StartPodAsync(driver, claim);
            }
            catch (Exception e) when (e is RpcException or InvalidOperationException)
            {
                return new PreparedAnswer(e.Message, []);
            }
        }
    }

    /// <summary>A pod has ended: its claim is given back. What was never prepared is given back as well.</summary>
    /// <returns>The plugin's error; empty: none.</returns>
    public async Task<string> EndPodAsync(string driver, PodClaim claim)
    {
        string error = (await UnprepareAsync(driver, claim))[claim.Uid];
        if (error.Length == 0)
            _claims.TryRemove(claim.Uid, out _);
        return error;
    }

    /// <summary>A pod has ended, and its claim is given back when a plugin can be reached, as a kubelet goes on trying.</summary>
    /// <returns>The error that the plugin answered; empty: none.</returns>
    public async Task<string> EndPodInTheEndAsync(string driver, PodClaim claim)
    {
        for (DateTime end = DateTime.UtcNow + Patience; ; await Task.Delay(10 * Look))
        {
            try
            {
                return await EndPodAsync(driver, claim);
            }
            catch (Exception e) when (e is RpcException or InvalidOperationException && DateTime.UtcNow < end)
            {
                // The plugin was registered anew in the middle of the call.
            }
        }
    }

    /// <summary>NodePrepareResources, once.</summary>
    /// <exception cref="RpcException">It failed as a whole, or took longer than 45 s.</exception>
    /// <exception cref="InvalidOperationException">There is no plugin.</exception>
    public async Task<IReadOnlyDictionary<string, PreparedAnswer>> PrepareAsync(string driver, params PodClaim[] claims)
    {
        var request = new NodePrepareResourcesRequest();
        request.Claims.AddRange(claims.Select(Claim));
        Note("prepare", claims);
        NodePrepareResourcesResponse response = await Of(driver)
            .Dra.NodePrepareResourcesAsync(request, deadline: DateTime.UtcNow + Deadline);
        return response.Claims.ToDictionary(
            c => c.Key,
            c => new PreparedAnswer(
                c.Value.Error,
                [
                    .. c.Value.Devices.Select(d => new PreparedAnswerDevice(
                        d.RequestNames.Single(),
                        d.PoolName,
                        d.DeviceName,
                        [.. d.CdiDeviceIds]
                    )),
                ]
            )
        );
    }

    /// <summary>NodeUnprepareResources, once: the error for each claim.</summary>
    public async Task<IReadOnlyDictionary<string, string>> UnprepareAsync(string driver, params PodClaim[] claims)
    {
        var request = new NodeUnprepareResourcesRequest();
        request.Claims.AddRange(claims.Select(Claim));
        Note("unprepare", claims);
        NodeUnprepareResourcesResponse response = await Of(driver)
            .Dra.NodeUnprepareResourcesAsync(request, deadline: DateTime.UtcNow + Deadline);
        return response.Claims.ToDictionary(c => c.Key, c => c.Value.Error);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await StopAsync();

    private void Note(string what, IEnumerable<PodClaim> claims)
    {
        foreach (PodClaim claim in claims)
            Calls.Enqueue((what, claim.Uid));
    }

    private static Claim Claim(PodClaim claim) =>
        new()
        {
            Namespace = claim.Namespace,
            Name = claim.Name,
            Uid = claim.Uid,
        };

    private Plugin Of(string driver) =>
        _plugins.Values.Where(p => p.Driver == driver).MaxBy(p => p.Since)
        ?? throw new InvalidOperationException($"DRA driver {driver} is not registered");

    private async Task WatchAsync(CancellationToken ct)
    {
        var seen = new Dictionary<string, DateTime>();
        while (!ct.IsCancellationRequested)
        {
            foreach (string gone in seen.Keys.Where(p => !File.Exists(p)).ToList())
            {
                seen.Remove(gone);
                Forget(gone);
            }

            foreach (string path in System.IO.Directory.EnumerateFiles(Registry, "*.sock"))
            {
                // What was made anew is another plugin.
                DateTime made = File.GetLastWriteTimeUtc(path);
                if (seen.TryGetValue(path, out DateTime before) && before == made)
                    continue;
                Forget(path);
                if (await RegisterAsync(path, ct))
                    seen[path] = made;
            }

            await Task.Delay(Look, ct)
                .ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }

    private async Task<bool> RegisterAsync(string path, CancellationToken ct)
    {
        using GrpcChannel channel = UnixSockets.Dial(path);
        var registration = new Registration.RegistrationClient(channel);
        try
        {
            PluginInfo info = await registration.GetInfoAsync(
                new InfoRequest(),
                deadline: DateTime.UtcNow + InfoDeadline,
                cancellationToken: ct
            );
            string? wrong =
                Refuses
                ?? (info.Type != "DRAPlugin" ? $"no handler registered for plugin type: {info.Type}" : null)
                ?? (info.SupportedVersions.Contains("v1.DRAPlugin") ? null : "no supported version");
            if (wrong is null)
            {
                var plugin = new Plugin(info.Name, info.Endpoint, UnixSockets.Dial(_root + info.Endpoint));
                _plugins[path] = plugin;
                if (info.SupportedVersions.Contains("v1alpha1.DRAResourceHealth"))
                    _ = HearAsync(path, plugin, ct);
            }

            await registration.NotifyRegistrationStatusAsync(
                new RegistrationStatus { PluginRegistered = wrong is null, Error = wrong ?? "" },
                deadline: DateTime.UtcNow + InfoDeadline,
                cancellationToken: ct
            );
            return true;
        }
        catch (RpcException)
        {
            // It is tried again, as a kubelet does with growing delays.
            Forget(path);
            return false;
        }
    }

    private async Task HearAsync(string path, Plugin plugin, CancellationToken ct)
    {
        try
        {
            using AsyncServerStreamingCall<NodeWatchResourcesResponse> stream = new DRAResourceHealth.DRAResourceHealthClient(
                plugin.Channel
            ).NodeWatchResources(new NodeWatchResourcesRequest(), cancellationToken: ct);
            await foreach (NodeWatchResourcesResponse health in stream.ResponseStream.ReadAllAsync(ct))
                _health[path] = [.. health.Devices.Select(d => (d.Device.PoolName, d.Device.DeviceName, d.Health.ToString()))];
        }
        catch (Exception e) when (e is RpcException or OperationCanceledException or ObjectDisposedException)
        {
            _health.TryRemove(path, out _);
        }
    }

    private void Forget(string path)
    {
        if (_plugins.TryRemove(path, out Plugin? plugin))
            plugin.Channel.Dispose();
        _health.TryRemove(path, out _);
    }

    private sealed record Plugin(string Driver, string Endpoint, GrpcChannel Channel)
    {
        public long Since { get; } = Environment.TickCount64;

        public DRAPlugin.DRAPluginClient Dra { get; } = new(Channel);
    }
}
