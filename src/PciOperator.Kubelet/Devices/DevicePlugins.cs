using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Extensions.Logging;
using PciOperator.Host;
using PciOperator.Kubelet.Wire.DevicePluginV1Beta1;

namespace PciOperator.Kubelet;

/// <summary>A claim's extended resource, as the kubelet has it.</summary>
/// <param name="ResourceName">The resource.</param>
/// <param name="Pods">The pods that have it.</param>
public sealed record ResourceStatus(string ResourceName, IReadOnlyList<PodReference> Pods);

/// <summary>
/// The device plugins, one for each claim that is handed out by an extended resource: each has a socket beside the kubelet's, and is
/// registered whenever the kubelet is another one than before (it removes all sockets when it starts).
/// </summary>
internal sealed class DevicePlugins(
    KubeletOptions options,
    ResourceHandout handout,
    Allocations allocations,
    PodDevices pods,
    PluginSockets sockets,
    TimeProvider time,
    ILogger log
)
{
    private const string Version = "v1beta1";

    // After a kubelet has gone, the next is looked for so often and so long.
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan Expected = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10);
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Plugin> _plugins = new(StringComparer.Ordinal);
    private readonly SignalOfChange _wake = new();
    private readonly HashSet<string> _said = new(StringComparer.Ordinal);
    private IReadOnlyDictionary<string, ResourceStatus> _status = new Dictionary<string, ResourceStatus>();
    private long _lost;

    /// <summary>What the kubelet has, or which pods have it, has changed.</summary>
    public event Action? Changed;

    /// <summary>By claims' UIDs, the resources that the kubelet has taken up.</summary>
    public IReadOnlyDictionary<string, ResourceStatus> Status => Volatile.Read(ref _status);

    /// <summary>What the node was given may have changed, or a kubelet has gone.</summary>
    public void Wake() => _wake.Raise();

    /// <summary>Keeps the kubelet told until cancelled.</summary>
    public async Task RunAsync(CancellationToken ct)
    {
        while (true)
        {
            Task woken = _wake.Next();
            try
            {
                await LookAsync(ct);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or HandoutException)
            {
                Say(e.Message);
            }

            bool waits =
                Plugins(p => !p.IsTaken).Count > 0
                && Volatile.Read(ref _lost) is not 0 and var lost
                && time.GetElapsedTime(lost) < Expected;
            await Task.WhenAny(woken, Task.Delay(waits ? Soon : options.SocketCheck, time, ct));
            ct.ThrowIfCancellationRequested();
        }
    }

    /// <summary>Serves nothing any more.</summary>
    public void Stop()
    {
        lock (_gate)
        {
            foreach (Plugin plugin in _plugins.Values)
                sockets.Stop(plugin.Path);
            _plugins.Clear();
        }
    }

    /// <summary>A claim's devices go back to the host: the kubelet is told that there are none, and forgets the resource.</summary>
    /// <exception cref="HostIoException">What was allocated can't be forgotten.</exception>
    public void Withdraw(string claimUid)
    {
        Plugin? plugin;
        lock (_gate)
            _plugins.Remove(claimUid, out plugin);
        if (plugin is not null)
        {
            plugin.End();
            sockets.Stop(plugin.Path);
        }

        allocations.Remove(claimUid);
        Publish(Status.Where(s => s.Key != claimUid).ToDictionary());
    }

    /// <summary>Which claim a socket is for; null: none any more.</summary>
    public Plugin? At(string? path)
    {
        lock (_gate)
            return _plugins.Values.FirstOrDefault(p => p.Path == path);
    }

    /// <summary>The kubelet listens to a plugin.</summary>
    /// <param name="plugin">The plugin.</param>
    /// <param name="listener">Which stream it is.</param>
    public void Begins(Plugin plugin, object listener)
    {
        lock (_gate)
            plugin.Listener = listener;
        Wake();
    }

    /// <summary>A stream has ended: the kubelet listens no more, unless it has begun another one before this was seen.</summary>
    /// <param name="plugin">The plugin.</param>
    /// <param name="listener">Which stream it was.</param>
    public void Ends(Plugin plugin, object listener)
    {
        lock (_gate)
        {
            if (plugin.Listener != listener)
                return;
            (plugin.Listener, plugin.Kubelet) = (null, null);
        }

        Volatile.Write(ref _lost, time.GetTimestamp());
        Wake();
    }

    private async Task LookAsync(CancellationToken ct)
    {
        // What isn't known for a moment must not take a resource from the kubelet.
        if (handout.Offers is { } offers)
            Reconcile(offers);
        string? kubelet = Identity(Local(KubeletSocket));
        foreach (Plugin plugin in Plugins(p => IsUntold(p, kubelet)))
            await RegisterAsync(plugin, kubelet, ct);
        foreach (Plugin plugin in Plugins(p => p.IsTaken))
            plugin.Change.Raise();
        await LookAtPodsAsync(ct);
    }

    /// <summary>Its socket is gone, the kubelet is another one, or one that was told does not dial, which it does at once.</summary>
    private bool IsUntold(Plugin plugin, string? kubelet) =>
        !sockets.IsServed(plugin.Path)
        || (kubelet is not null && plugin.Kubelet != kubelet)
        || (plugin is { IsTaken: false, Kubelet: not null } && time.GetElapsedTime(plugin.ToldAt) > Patience);

    private string KubeletSocket => $"{handout.Folder}/kubelet.sock";

    private void Reconcile(IReadOnlyList<OfferedClaim> offers)
    {
        lock (_gate)
        {
            foreach (OfferedClaim offer in offers)
            {
                // A plugin is made when its devices can be used for the first time.
                if (_plugins.ContainsKey(offer.ClaimUid) || !offer.IsPrepared || !Journal.IsUid(offer.ClaimUid))
                    continue;
                string name = $"{options.Driver}-{offer.ClaimUid}.sock";
                _plugins[offer.ClaimUid] = new Plugin(offer.ClaimUid, offer.ResourceName!, name, Local($"{handout.Folder}/{name}"));
            }

            // Another resource of the same claim is another plugin.
            foreach (
                Plugin gone in _plugins
                    .Values.Where(p => offers.All(o => (o.ClaimUid, o.ResourceName) != (p.ClaimUid, p.ResourceName)))
                    .ToList()
            )
            {
                _plugins.Remove(gone.ClaimUid);
                gone.End();
                sockets.Stop(gone.Path);
            }
        }
    }

    private async Task RegisterAsync(Plugin plugin, string? kubelet, CancellationToken ct)
    {
        if (kubelet is null)
        {
            Say($"there is no {KubeletSocket}, by which a kubelet takes up {plugin.ResourceName}");
            return;
        }

        sockets.Serve(plugin.Path);
        using GrpcChannel channel = UnixSockets.Dial(Local(KubeletSocket));
        try
        {
            await new Registration.RegistrationClient(channel).RegisterAsync(
                new RegisterRequest
                {
                    Version = Version,
                    Endpoint = plugin.Endpoint,
                    ResourceName = plugin.ResourceName,
                    Options = DevicePluginService.Options,
                },
                deadline: time.GetUtcNow().UtcDateTime + Deadline,
                cancellationToken: ct
            );
            lock (_gate)
                (plugin.Kubelet, plugin.ToldAt) = (kubelet, time.GetTimestamp());
            log.LogInformation("{Resource}: the kubelet was told of it", plugin.ResourceName);
        }
        catch (RpcException e) when (!ct.IsCancellationRequested)
        {
            Say($"the kubelet does not take up {plugin.ResourceName}: {e.Status.Detail}");
        }
    }

    /// <summary>No call says that a container has given devices back: the kubelet is asked who has them.</summary>
    private async Task LookAtPodsAsync(CancellationToken ct)
    {
        List<Plugin> taken = Plugins(p => p.IsTaken);
        HashSet<string> allocated = taken.Count == 0 ? [] : allocations.Claims.ToHashSet(StringComparer.Ordinal);
        var asked = taken.Where(p => allocated.Contains(p.ClaimUid)).Select(p => p.ResourceName).ToHashSet(StringComparer.Ordinal);
        ILookup<string, PodReference>? users = asked.Count == 0 ? null : await pods.UsersOfAsync(asked, ct);
        Publish(
            taken.ToDictionary(
                p => p.ClaimUid,
                p => new ResourceStatus(
                    p.ResourceName,
                    [.. (users?[p.ResourceName] ?? []).OrderBy(u => u.ToString(), StringComparer.Ordinal)]
                )
            )
        );
    }

    private List<Plugin> Plugins(Func<Plugin, bool> which)
    {
        lock (_gate)
            return [.. _plugins.Values.Where(which)];
    }

    private void Publish(Dictionary<string, ResourceStatus> now)
    {
        IReadOnlyDictionary<string, ResourceStatus> before = Interlocked.Exchange(ref _status, now);
        bool same =
            before.Count == now.Count
            && now.All(n =>
                before.TryGetValue(n.Key, out ResourceStatus? b)
                && b.ResourceName == n.Value.ResourceName
                && b.Pods.SequenceEqual(n.Value.Pods)
            );
        if (!same)
            Changed?.Invoke();
    }

    private void Say(string message)
    {
        if (_said.Count > 256)
            _said.Clear();
        if (_said.Add(message))
            log.LogWarning("{Message}", message);
    }

    private string Local(string path) => options.SocketRoot.TrimEnd('/') + path;

    /// <summary>Which kubelet it is: it makes its socket anew at each start. Null: there is none.</summary>
    private static string? Identity(string path) =>
        Libc.InodeAt(path) is { } inode ? $"{inode} {File.GetLastWriteTimeUtc(path).Ticks}" : null;

    /// <summary>One claim's plugin.</summary>
    internal sealed class Plugin(string claimUid, string resourceName, string endpoint, string path)
    {
        private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public string ClaimUid { get; } = claimUid;

        public string ResourceName { get; } = resourceName;

        /// <summary>Its socket's name.</summary>
        public string Endpoint { get; } = endpoint;

        /// <summary>Its socket, on this machine.</summary>
        public string Path { get; } = path;

        /// <summary>The kubelet that was told of it; null: none.</summary>
        public string? Kubelet { get; set; }

        /// <summary>When it was.</summary>
        public long ToldAt { get; set; }

        /// <summary>The stream by which the kubelet listens to it; null: it does not.</summary>
        public object? Listener { get; set; }

        /// <summary>The kubelet listens to it.</summary>
        public bool IsTaken => Listener is not null;

        /// <summary>Its devices may be other ones, or other than they were.</summary>
        public SignalOfChange Change { get; } = new();

        /// <summary>Its claim's devices go.</summary>
        public Task Ended => _ended.Task;

        public void End() => _ended.TrySetResult();
    }
}
