using k8s.Models;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>One cluster for all tests that take devices and give them back.</summary>
public sealed class ClusterFixture : IAsyncLifetime
{
    internal Cluster Cluster { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        if (Lab.IsCi || Lab.WhyNoCluster is null)
            Cluster = await Cluster.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (Cluster is not null)
            await Cluster.DisposeAsync();
    }
}

[CollectionDefinition(Name)]
public sealed class SharedCluster : ICollectionFixture<ClusterFixture>
{
    public const string Name = "cluster";
}

/// <summary>
/// A test on the shared cluster. After it, whatever came of it: an agent runs, nothing is claimed or offered, no PF has VFs.
/// </summary>
[Collection(SharedCluster.Name)]
public abstract class ClusterTest(ClusterFixture fixture) : IAsyncLifetime
{
    /// <summary>What the tests run in the guest (tests/vm/PciOperator.Vm.Guest).</summary>
    protected const string GuestProgram = "/mnt/guest/pcioperator-vm-guest";

    private protected Cluster Cluster => fixture.Cluster;

    private protected VirtualMachine Machine => fixture.Cluster.Machine;

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public virtual async ValueTask DisposeAsync()
    {
        await LetGoAsync();
        await OpenGateAsync();
        await Machine.RunAsync("umount /mnt/disk");
        if ((await Machine.RunAsync("kill -0 $(cat /run/agent.pid)")).ExitCode != 0)
            await Cluster.StartAgentAsync();
        await Cluster.ClearAsync();
        await Machine.OutputOfAsync("for pf in /sys/bus/pci/devices/*/sriov_numvfs; do [ $(cat $pf) = 0 ] || echo 0 > $pf; done");
    }

    private protected static AliasDevice Function(string vendorId, string productId, DeviceType? type = null) =>
        new()
        {
            VendorId = vendorId,
            ProductId = productId,
            DeviceType = type,
        };

    private protected static AliasDevice Nic => Function("8086", "10c9", DeviceType.Pf);

    private protected static AliasDevice NicVf => Function("8086", "10ca", DeviceType.Vf);

    private protected static AliasDevice DualNic => Function("8086", "10d3");

    /// <summary>Offers <see cref="Topology.Nic1"/> and waits until a claim of it, both of this name, is ready.</summary>
    private protected async Task<ClaimDevice> ClaimNicAsync(string name, Action<PciDeviceSpecSpec>? more = null)
    {
        await Cluster.OfferAsync(name, new() { Address = Topology.Nic1 }, Nic, more: more);
        await Cluster.ClaimAsync(name, name);
        return Assert.Single((await Cluster.WaitUntilReadyAsync(name)).Status!.Devices!);
    }

    private protected static V1Condition? Scheduled(PassthroughClaimStatus status) =>
        status.Conditions?.FirstOrDefault(condition => condition.Type == Conditions.Scheduled);

    /// <summary>
    /// Waits until a PciNode's event has these words: what an agent says of a claim that it refused; the claim itself has the reason only.
    /// </summary>
    private protected async Task<string> ToldOnPciNodeAsync(string words)
    {
        for (DateTimeOffset began = DateTimeOffset.UtcNow; ; await Task.Delay(200))
        {
            Eventsv1Event? told = (await Cluster.Client.ListAsync<Eventsv1Event>("default")).Items.FirstOrDefault(e =>
                e.Regarding?.Kind == "PciNode" && e.Note?.Contains(words, StringComparison.Ordinal) == true
            );
            if (told is not null)
                return told.Note!;
            Assert.True(DateTimeOffset.UtcNow - began < TimeSpan.FromMinutes(1), $"no PciNode has an event that says {words}");
        }
    }

    /// <summary>
    /// Waits until a claim is refused with a sentence that has these words (an earlier one may be of what was not offered yet); returns it.
    /// </summary>
    private protected async Task<string> RefusalOfAsync(string claim, string words = "") =>
        Scheduled(
            (
                await Cluster.WaitForClaimAsync(
                    claim,
                    status =>
                        status.Phase == ClaimPhase.Pending
                        && Scheduled(status) is { Status: "False" } scheduled
                        && scheduled.Message!.Contains(words, StringComparison.Ordinal)
                )
            ).Status!
        )!.Message!;

    private protected async Task AssertBoundAsync(string address, int? group)
    {
        Assert.Equal("vfio-pci", await Machine.DriverOfAsync(address));
        Assert.Equal(group.ToString(), await Machine.IommuGroupOfAsync(address));
        await Machine.OutputOfAsync($"test -c /dev/vfio/{group}");
    }

    private protected async Task AssertGivenBackAsync(string address, string driver)
    {
        Assert.Equal(driver, await Machine.DriverOfAsync(address));
        Assert.Equal("(null)", await Machine.SysfsAsync(address, "driver_override"));
        await Machine.OutputOfAsync($"test ! -e /dev/vfio/{await Machine.IommuGroupOfAsync(address)}");
    }

    /// <summary>A process in the guest that has a group and its devices open as a virtual machine would; returns its PID.</summary>
    /// <param name="how">"hold", or "hide": the files are open, and no process has them.</param>
    /// <param name="group">The IOMMU group.</param>
    /// <param name="addresses">Those of its devices that are opened.</param>
    private protected async Task<string> HoldOpenAsync(string how, string? group, params IEnumerable<string> addresses)
    {
        string pid = await Machine.OutputOfAsync(
            $"setsid {GuestProgram} vfio-{how} {group} {string.Join(' ', addresses)} > /run/holder.log 2>&1 & echo $! | tee /run/holder.pid"
        );
        await Machine.WaitUntilAsync("grep -q holding /run/holder.log");
        return pid;
    }

    /// <summary>Ends the process of <see cref="HoldOpenAsync"/>, if there is one.</summary>
    private protected Task LetGoAsync() =>
        Machine.OutputOfAsync("[ ! -e /run/holder.pid ] || kill -9 $(cat /run/holder.pid) || true; rm -f /run/holder.pid");

    /// <summary>
    /// Puts a named pipe in the place of a file that the agent writes: its open(2) waits for a reader, so that the agent stops
    /// there, in the middle of its work, until <see cref="OpenGateAsync"/>.
    /// </summary>
    /// <param name="path">For example /sys/bus/pci/drivers_probe.</param>
    private protected Task CloseGateAsync(string path) =>
        Machine.OutputOfAsync($"rm -f /run/gate && mkfifo /run/gate && mount --bind /run/gate {path} && echo {path} > /run/gate.path");

    /// <summary>Waits until the agent stands before the gate.</summary>
    private protected Task WaitAtGateAsync() => WaitUntilWorkWaitsInAsync("wait_for_partner", "fifo_open");

    /// <summary>Waits until a thread of the agent that works on a claim waits in one of these functions of the kernel.</summary>
    private protected Task WaitUntilWorkWaitsInAsync(params IEnumerable<string> functions) =>
        Machine.WaitUntilAsync(
            $"{{ for thread in /proc/$(cat /run/agent.pid)/task/*; do grep -q -e ^prepare -e ^release $thread/comm && cat $thread/wchan; done; }} | grep -q {string.Concat(functions.Select(function => $" -e {function}"))}"
        );

    private protected Task OpenGateAsync() =>
        Machine.OutputOfAsync("[ ! -e /run/gate.path ] || umount -l $(cat /run/gate.path); rm -f /run/gate.path /run/gate");
}
