using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>
/// Whatever a guard refuses on a device, it refuses on each member of its group and on each VF of a PF, before anything is touched.
/// </summary>
public class GuardReachTests
{
    /// <summary>
    /// Ways to use the function that is given, whatever it is: an interface "net9" and a disk "nvme9n1" are on it, and its path is known.
    /// </summary>
    private static readonly (string Guard, Action<SimulatedHost, string, string> Use)[] Uses =
    [
        ("Mounted", (h, at, _) => h.Change(at, f => f.Disks[0].MountedAt = "/data")),
        ("Swap", (h, at, _) => h.Change(at, f => f.Disks[0].Swap = true)),
        ("Stacked", (h, _, _) => h.Stack(new SimulatedStack { Name = "dm-0", On = ["nvme9n1"] })),
        ("Member", (h, _, path) => h.PutFile($"/sys{path}/nvme/nvme9/nvme9n1/bcache/state", "clean")),
        ("NetworkUse", (h, at, _) => h.Change(at, f => f.Interfaces[0].Address = true)),
        ("UpperInterface", (h, at, _) => h.Change(at, f => f.Interfaces[0].Master = "bond0")),
        ("NetworkListener", (h, at, _) => h.Change(at, f => f.Interfaces[0].PacketSocket = true)),
        ("HiddenInterface", (h, at, _) => h.Change(at, f => f.Interfaces[0].InPod = true)),
        ("BootVga", (h, at, _) => h.Change(at, f => (f.Ids, f.Class, f.BootVga) = ("8086:0001", 0x030000, true))),
        (
            "Console",
            (h, _, path) =>
            {
                h.PutFile("/proc/consoles", "ttyS4                -W- (EC p a)    4:68\n");
                h.PutLink("/sys/class/tty/ttyS4", $"../..{path}/tty/ttyS4");
            }
        ),
        ("MediatedDevice", (h, _, path) => h.PutLink("/sys/bus/mdev/devices/0b0c", $"../../..{path}/0b0c")),
        ("SystemDevice", (h, at, _) => h.Change(at, f => (f.Ids, f.Class) = ("8086:0001", 0x0c0500))),
        ("DeniedDriver", (h, at, _) => h.Change(at, f => (f.HostDriver, f.Driver) = ("mei_me", "mei_me"))),
        ("ForeignVfioBinding", (h, at, _) => h.Change(at, f => f.Driver = "vfio-pci")),
        ("HostView", (h, _, _) => h.PutFile("/dev/nvme9n1", "")),
        ("open", (h, _, _) => h.StartProcess("tool", "/dev/nvme9")),
        ("claimed", (h, at, _) => h.Change(at, f => f.Disks[0].Claimed = true)),
    ];

    public static TheoryData<string, string> Everywhere
    {
        get
        {
            var all = new TheoryData<string, string>();
            foreach ((string guard, _) in Uses)
            {
                foreach (string place in new[] { "device", "sibling", "VF" })
                    all.Add(guard, place);
            }

            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_guard_reaches_the_device_its_siblings_and_its_VFs(string guard, string place)
    {
        SimulatedHostBuilder builder = LabHosts.Builder();
        SimulatedFunction used = Fresh("0000:a1:00.0");
        string[] claimed;
        if (place == "VF")
        {
            SimulatedFunction pf = Fresh("0000:a1:00.0");
            pf.Sriov = new SimulatedSriov
            {
                Total = 4,
                NumVfs = 2,
                VfProduct = "10ca",
                VfDriver = "igbvf",
                Offset = 1,
            };
            (pf.Interfaces[0].Name, pf.Disks, pf.Nodes) = ("net0", [], []);
            builder.Add(pf);
            claimed = [pf.Address];
        }
        else
        {
            builder.Add(used);
            claimed = [used.Address];
        }

        if (place == "sibling")
        {
            SimulatedFunction sibling = Fresh("0000:a1:00.1");
            (sibling.Interfaces, sibling.Disks, sibling.Nodes) = ([], [], []);
            (sibling.Class, sibling.HostDriver) = (0x088000, null);
            (used.Group, sibling.Group) = (200, 200);
            builder.Add(sibling);
            claimed = [used.Address, sibling.Address];
        }

        var lab = new Lab(builder.Build());
        string at = "0000:a1:00.0";
        if (place == "VF")
        {
            at = "0000:a1:00.2";
            lab.Simulated.Change(at, f => (f.Interfaces, f.Disks, f.Nodes) = (used.Interfaces, used.Disks, used.Nodes));
        }

        string asked = place switch
        {
            "sibling" => claimed[1],
            _ => claimed[0],
        };
        Assert.Null(lab.Seen(asked).GuardReason);
        Uses.Single(u => u.Guard == guard).Use(lab.Simulated, at, $"/devices/pci0000:a1/{at}");
        HostFunction seen = lab.Seen(asked);
        if (guard is not ("open" or "claimed"))
        {
            Assert.Equal(guard, seen.GuardName);
            Assert.StartsWith(at, seen.GuardReason, StringComparison.Ordinal);
        }

        Holding holding = await lab.Prepare("claim-1", claimed);
        Assert.Equal(HoldingState.Rejected, holding.State);
        Assert.Equal(guard == "ForeignVfioBinding" ? HoldingReasons.ForeignVfioBinding : HoldingReasons.GuardRefused, holding.Reason);
        Assert.Contains(at, holding.Message, StringComparison.Ordinal);
        GuardTests.NothingWasDone(lab);
    }

    private static SimulatedFunction Fresh(string address) =>
        new()
        {
            Address = address,
            Ids = "8086:10c9",
            Class = 0x020000,
            HostDriver = "igb",
            Interfaces = [new SimulatedInterface { Name = "net9" }],
            Disks = [new SimulatedDisk { Name = "nvme9n1", Minor = 144 }],
            Nodes = [new SimulatedNode("nvme9", 238, 9)],
        };
}
