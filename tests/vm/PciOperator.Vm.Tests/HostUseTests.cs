using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Vm.Tests;

/// <summary>Uses of devices that no path of sysfs shows, and processes that end while they are looked at.</summary>
public sealed class HostUseTests(ClusterFixture fixture) : ClusterTest(fixture)
{
    private static readonly AliasDevice Nvme = Function("1b36", "0010", DeviceType.Pf);

    [ClusterFact]
    public async Task An_NVMe_under_a_loop_device_is_refused_with_the_loop_device_and_its_mount()
    {
        await Cluster.OfferAsync("nvme", new() { Address = Topology.Nvme }, Nvme);
        await Cluster.WaitForDeviceAsync(Topology.Nvme, device => device.State == DeviceState.Available);

        // Another name for the node, as the kubelet makes for raw block volumes: the path says nothing.
        await Machine.OutputOfAsync(
            "modprobe loop && mkdir -p /mnt/disk /run/volume && mknod /run/volume/dev b $(cat /sys/class/block/nvme0n1/dev | tr : ' ') && losetup /dev/loop0 /run/volume/dev"
        );
        try
        {
            await Cluster.ClaimAsync("looped", "nvme");
            PciNodeDevice looped = await Cluster.WaitForUnavailableAsync(Topology.Nvme, "loop0");
            Assert.Contains("/dev/nvme0n1 -> loop0", looped.Reason, StringComparison.Ordinal);
            await Machine.OutputOfAsync(
                "mount /dev/loop0 /mnt/disk && touch /mnt/disk/there && echo change > /sys/class/block/nvme0n1/uevent"
            );
            PciNodeDevice mounted = await Cluster.WaitForUnavailableAsync(Topology.Nvme, "/mnt/disk");
            Assert.Contains("/dev/nvme0n1 -> loop0, mounted at /mnt/disk", mounted.Reason, StringComparison.Ordinal);
            Assert.Equal("nvme", await Machine.DriverOfAsync(Topology.Nvme));
            await Machine.OutputOfAsync("sync && test -e /mnt/disk/there");
        }
        finally
        {
            await Machine.RunAsync("umount /mnt/disk");
            await Machine.OutputOfAsync("losetup -d /dev/loop0; rm -r /run/volume");
        }

        // The claim that was refused doesn't get this device for a while; another does.
        await Cluster.ReleaseAsync("looped");
        await Machine.OutputOfAsync("echo change > /sys/class/block/nvme0n1/uevent");
        await Cluster.ClaimAsync("nvme", "nvme");
        await Cluster.WaitUntilReadyAsync("nvme");
    }

    [ClusterFact]
    public async Task A_node_that_is_bind_mounted_for_somebody_is_refused_with_the_place()
    {
        await Machine.OutputOfAsync("touch /run/node && mount --bind /dev/nvme0n1 /run/node");
        try
        {
            await Cluster.OfferAsync("nvme", new() { Address = Topology.Nvme }, Nvme);
            await Machine.OutputOfAsync("echo change > /sys/class/block/nvme0n1/uevent");
            await Cluster.WaitForUnavailableAsync(Topology.Nvme, "whose node is bind-mounted at /run/node");
        }
        finally
        {
            await Machine.OutputOfAsync("umount /run/node && rm /run/node");
        }
    }

    [ClusterFact]
    public async Task A_virtio_function_with_a_9p_mount_is_refused_with_the_place()
    {
        // What the tests run from is such a mount.
        string address = await Machine.OutputOfAsync(
            """
            for device in /sys/bus/virtio/devices/*; do
              [ -e $device/mount_tag ] && [ "$(tr -d '\0' < $device/mount_tag)" = guest ] && basename $(dirname $(readlink -f $device))
            done
            true
            """
        );
        await Cluster.OfferAsync("share", new() { Address = address }, Function("1af4", "1009"));
        PciNodeDevice share = await Cluster.WaitForUnavailableAsync(address, "9p");
        Assert.Contains($"{address} carries the 9p file system guest, mounted at /mnt/guest", share.Reason, StringComparison.Ordinal);
        await Cluster.ClaimAsync("share", "share");
        await RefusalOfAsync("share");
        Assert.Equal("virtio-pci", await Machine.DriverOfAsync(address));
        await Machine.OutputOfAsync($"test -e {GuestProgram}");
        await Cluster.ReleaseAsync("share");
    }

    [ClusterFact]
    public async Task Processes_that_end_while_they_are_looked_at_refuse_nothing()
    {
        const int prepares = 10;
        await Machine.OutputOfAsync(
            $"for i in 1 2 3; do setsid {GuestProgram} churn 200 > /dev/null 2>&1 & echo $! >> /run/churn.pids; done"
        );
        try
        {
            await Cluster.OfferAsync("nic", new() { Address = Topology.Nic1 }, Nic);
            for (int i = 0; i < prepares; i++)
            {
                await Cluster.ClaimAsync($"nic-{i}", "nic");
                await Cluster.WaitUntilReadyAsync($"nic-{i}");
                await Cluster.ReleaseAsync($"nic-{i}");
            }
        }
        finally
        {
            await Machine.OutputOfAsync("for pid in $(cat /run/churn.pids); do kill -9 -$pid; done; rm /run/churn.pids");
        }

        Assert.Equal("0", await Machine.OutputOfAsync("grep -c 'HostUnreadable\\|refused: .*/proc/' /run/agent.log || true"));
    }
}
