using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using PciOperator.Host;
using PciOperator.Kubelet.Wire.PluginRegistration;

namespace PciOperator.Kubelet;

/// <summary>Whether the kubelet can hand devices to pods: whether it has taken the plugin.</summary>
/// <param name="IsRegistered">It has.</param>
/// <param name="Reason">One word.</param>
/// <param name="Message">A sentence.</param>
public sealed record KubeletStatus(bool IsRegistered, string Reason, string Message);

/// <summary>
/// A node's plugins: serves them to the kubelet, hands devices out, and takes them back. A host without a kubelet is no error: it says so,
/// and looks again.
/// </summary>
public sealed class KubeletPlugin : IAsyncDisposable
{
    // A health stream ends with its connection only.
    private static readonly TimeSpan LastWords = TimeSpan.FromSeconds(2);

    private readonly KubeletOptions _options;
    private readonly IHostFileSystem _files;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly PreparedClaims _prepared;
    private readonly ClaimHandout _handout;
    private readonly Allocations _allocations;
    private readonly DevicePlugins _devices;
    private readonly PluginSockets _sockets;
    private readonly WebApplication _server;
    private readonly Lock _recovering = new();
    private readonly SignalOfChange _nodeChange = new();
    private bool _isRecovered;
    private KubeletStatus _status = NotYet;

    private static KubeletStatus NotYet { get; } = new(false, "NotRegistered", "the plugins are not served yet");

    /// <summary>The plugins of a node.</summary>
    /// <param name="options">Where the kubelet is.</param>
    /// <param name="node">What the cluster gave to the node.</param>
    /// <param name="files">The host.</param>
    /// <param name="time">What is waited by.</param>
    /// <param name="log">Where it is said what was handed out.</param>
    public KubeletPlugin(KubeletOptions options, IKubeletNode node, IHostFileSystem files, TimeProvider time, ILogger log)
    {
        (_options, _files, _time, _log) = (options, files, time, log);
        var handout = new HandoutFiles(options, files);
        _prepared = new PreparedClaims(files, handout, options.StateDirectory, log);
        _handout = new ClaimHandout(options, node, files, handout, _prepared, time, log);
        _handout.Changed += () => Changed?.Invoke();
        var logs = new OneLogger(log);
        _sockets = new PluginSockets(logs);
        _allocations = new Allocations(files, options.StateDirectory);
        var pods = new PodDevices(options, time);
        var resources = new ResourceHandout(options, node, files, _prepared, _allocations, pods);
        _devices = new DevicePlugins(options, resources, _allocations, pods, _sockets, time, log);
        _devices.Changed += () => Changed?.Invoke();
        _server = PluginServer.Build(
            _sockets,
            logs,
            new RegistrationService(options, Told),
            new DraService(_handout),
            new DraBetaService(_handout),
            new HealthService(node, _nodeChange.Next, time),
            new DevicePluginService(_devices, resources)
        );
        _server.UseRouting();
        _server.MapGrpcService<RegistrationService>();
        _server.MapGrpcService<DraService>();
        _server.MapGrpcService<DraBetaService>();
        _server.MapGrpcService<HealthService>();
        _server.MapGrpcService<DevicePluginService>();
    }

    /// <summary>What was handed out, or whether the kubelet has the plugin, has changed. From any thread.</summary>
    public event Action? Changed;

    /// <summary>Whether the kubelet has taken the plugin.</summary>
    public KubeletStatus Status => Volatile.Read(ref _status);

    /// <summary>The UIDs of the claims some of whose devices are handed out now.</summary>
    public IReadOnlySet<string> Delivered => _prepared.All.Select(c => c.ClaimUid).ToHashSet(StringComparer.Ordinal);

    /// <summary>By claims' UIDs, the extended resources that the kubelet has taken up.</summary>
    public IReadOnlyDictionary<string, ResourceStatus> Resources => _devices.Status;

    /// <summary>What the node was given, or how its devices stand, may have changed.</summary>
    public void NodeChanged()
    {
        _handout.NodeChanged();
        _nodeChange.Raise();
        _devices.Wake();
    }

    /// <summary>Takes back what was handed out of a claim's devices, before they go back to the host. Done again it does nothing.</summary>
    /// <exception cref="HostIoException">It can't be taken back: the devices must stay where they are.</exception>
    public async Task WithdrawAsync(string claimUid, CancellationToken ct)
    {
        Recover();
        await _handout.WithdrawAsync(claimUid, ct);
        _devices.Withdraw(claimUid);
    }

    /// <summary>Takes back what was handed out of claims that the node neither was given nor holds.</summary>
    /// <exception cref="HostIoException">It can't be taken back.</exception>
    public async Task WithdrawAllButAsync(IReadOnlySet<string> claimUids, CancellationToken ct)
    {
        Recover();
        foreach (string gone in Delivered.Concat(_allocations.Claims).Distinct().Where(uid => !claimUids.Contains(uid)))
            await WithdrawAsync(gone, ct);
    }

    /// <summary>Serves until cancelled; then its sockets are removed, and what was handed out stays.</summary>
    /// <exception cref="JournalException">A newer agent was here: this one must not act.</exception>
    public async Task RunAsync(CancellationToken ct)
    {
        await _server.StartAsync(ct);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(ct);
        Task devices = _devices.RunAsync(stop.Token);
        try
        {
            await await Task.WhenAny(devices, ServeAsync(stop.Token));
        }
        finally
        {
            await stop.CancelAsync();
            await devices.ContinueWith(
                _ => { },
                CancellationToken.None,
                TaskContinuationOptions.ExecuteSynchronously,
                TaskScheduler.Default
            );

            // The kubelet is to forget the plugin before its service goes.
            _sockets.Stop(Local(_options.RegistrationSocket));
            _sockets.Stop(Local(_options.ServiceSocket));
            _devices.Stop();
            using var limit = new CancellationTokenSource(LastWords);
            await _server.StopAsync(limit.Token);
        }
    }

    private async Task ServeAsync(CancellationToken ct)
    {
        using var timer = new PeriodicTimer(_options.SocketCheck, _time);
        do
        {
            Look();
        } while (await timer.WaitForNextTickAsync(ct));
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        await _sockets.DisposeAsync();
    }

    /// <summary>Makes what should be there be there: checkpoints read, sockets served.</summary>
    private void Look()
    {
        try
        {
            Recover();
            string registration = Local(_options.RegistrationSocket),
                service = Local(_options.ServiceSocket);
            if (_sockets.IsServed(registration) && _sockets.IsServed(service))
                return;
            if (!Directory.Exists(Local(_options.RegistryDirectory)))
            {
                _sockets.Stop(registration);
                _sockets.Stop(service);
                Say(
                    new KubeletStatus(
                        false,
                        "NoKubelet",
                        $"there is no {_options.RegistryDirectory}, where a kubelet finds its plugins: if the kubelet has another folder, give --kubelet-dir"
                    )
                );
                return;
            }

            Serve(registration, service);
            Say(
                new KubeletStatus(
                    false,
                    "NotRegistered",
                    $"the plugin waits at {_options.RegistrationSocket}, and no kubelet has called yet: if this kubelet has another folder, give --kubelet-dir"
                )
            );
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Say(new KubeletStatus(false, "NotServed", e.Message));
        }
    }

    /// <summary>What an earlier agent handed out is known from then on.</summary>
    private void Recover()
    {
        lock (_recovering)
        {
            if (_isRecovered)
                return;
            _prepared.Recover();
            _isRecovered = true;
        }

        Changed?.Invoke();
    }

    private void Serve(string registration, string service)
    {
        foreach (string path in new[] { registration, service })
        {
            if (PluginSockets.WhyNot(path) is { } why)
                throw new IOException(why);
        }

        Directory.CreateDirectory(Path.GetDirectoryName(service)!);
        RemoveDead(Path.GetDirectoryName(registration)!, $"{_options.Driver}-", "reg.sock", registration);
        RemoveDead(Path.GetDirectoryName(service)!, "dra", ".sock", service);
        // The kubelet dials the service as soon as it has seen the other.
        if (!_sockets.IsServed(service))
            _sockets.Serve(service);
        _sockets.Serve(registration);
    }

    /// <summary>Removes what agents that were killed left: the kubelet would go on dialling it.</summary>
    private void RemoveDead(string folder, string begin, string end, string own)
    {
        foreach (
            string path in Directory.EnumerateFiles(folder, $"{begin}*{end}").Where(p => p != own && !PluginSockets.IsAnswered(p)).ToList()
        )
        {
            _log.LogInformation("{Path}: nobody answers there any more, and it is removed", path);
            File.Delete(path);
        }
    }

    private void Told(RegistrationStatus status) =>
        Say(
            status.PluginRegistered
                ? new KubeletStatus(true, "Registered", "the kubelet has the plugin")
                : new KubeletStatus(false, "Refused", $"the kubelet does not take the plugin: {status.Error}")
        );

    private void Say(KubeletStatus status)
    {
        if (Interlocked.Exchange(ref _status, status) == status)
            return;
        if (status.IsRegistered)
            _log.LogInformation("{Message}", status.Message);
        else
            _log.LogWarning("{Reason}: {Message}", status.Reason, status.Message);
        Changed?.Invoke();
    }

    private string Local(string path) => _options.SocketRoot.TrimEnd('/') + path;

    /// <summary>Everything of the server goes to the agent's log.</summary>
    private sealed class OneLogger(ILogger log) : ILoggerFactory
    {
        public void AddProvider(ILoggerProvider provider) { }

        public ILogger CreateLogger(string categoryName) => new Warnings(log);

        public void Dispose() { }
    }

    /// <summary>A server's own words count when something is wrong only.</summary>
    private sealed class Warnings(ILogger log) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Warning && log.IsEnabled(logLevel);

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter
        )
        {
            if (IsEnabled(logLevel))
                log.Log(logLevel, eventId, state, exception, formatter);
        }
    }
}
