using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>A look at what uevents name finds what a look at everything finds.</summary>
public class RescanTests
{
    private readonly Lab _lab = new();

    [Fact]
    public async Task After_whatever_happens_both_looks_agree()
    {
        await using var heard = new Ears(_lab.Simulated);
        var random = new Random(17);
        _lab.Agent.Scan();
        int claims = 0,
            changes = 0;
        (string Name, Func<Task> Do)[] acts =
        [
            ("VFs", () => Vfs(Lab.Igb, random.Next(8))),
            ("VFs of the X710", () => Vfs(Lab.X710, random.Next(5))),
            ("unbind", () => Write($"/sys/bus/pci/drivers/nvme/unbind", Lab.Nvme)),
            ("bind", () => Write("/sys/bus/pci/drivers/nvme/bind", Lab.Nvme)),
            ("claim", async () => await _lab.Prepare($"claim-{++claims}", Lab.GpuFunctions)),
            ("release", async () => await _lab.Agent.ReleaseAsync($"claim-{claims}")),
            ("claim a PF", async () => await _lab.Prepare("claim-pf", Lab.X520)),
            ("release a PF", async () => await _lab.Agent.ReleaseAsync("claim-pf")),
            ("pull out", () => Unplug("0000:81:00.0")),
            ("plug in", () => Plug("0000:81:00.0")),
            ("interface up", () => Change(Lab.X520, f => f.Interfaces[0].Up = !f.Interfaces[0].Up)),
            ("mount", () => Change(Lab.Nvme, f => f.Disks[0].MountedAt = f.Disks[0].MountedAt is null ? "/data" : null)),
            ("off the bus", () => Change(Lab.X520, f => f.OffTheBus = !f.OffTheBus)),
            ("lanes", () => Change(Lab.Nvme, f => f.Link!.Width = f.Link.Width == 8 ? 4 : 8)),
            ("another card", () => Change(Lab.X520, f => f.SubsystemIds = f.SubsystemIds == "8086:7b11" ? "8086:7b12" : "8086:7b11")),
        ];
        for (int i = 0; i < TestScope.Cases(300, 3); i++)
        {
            var done = new List<string>();
            string partly = "";
            for (int j = random.Next(1, 4); j > 0; j--)
            {
                (string name, Func<Task> act) = acts[random.Next(acts.Length)];
                done.Add(name);
                string before = _lab.Picture();
                await act();
                changes += before == _lab.Picture() ? 0 : 1;
                partly = Describe(_lab.Agent.Scan(await heard.AllAsync()));
            }

            Assert.True(
                Describe(_lab.Agent.Scan()) == partly,
                $"{i}: after {string.Join(", ", done)}:\n{Difference(Describe(_lab.Agent.Scan()), partly)}"
            );
        }

        Assert.True(changes > TestScope.Cases(100, 3), $"{changes} changes");
    }

    [Fact]
    public async Task A_uevent_costs_a_look_at_what_it_concerns()
    {
        await using var heard = new Ears(_lab.Simulated);
        _lab.Agent.Scan();
        _lab.Simulated.Change(Lab.Igb, f => f.Override = "vfio-pci");
        IReadOnlyList<Uevent> events = await heard.AllAsync();
        HashSet<string> read = [];
        _lab.Simulated.Fault = a =>
        {
            if (a.Path.StartsWith("/sys/bus/pci/devices/", StringComparison.Ordinal))
                read.Add(a.Path.Split('/')[5]);
        };
        HostSnapshot seen = _lab.Agent.Scan(events);
        Assert.Equal("vfio-pci", seen.Functions.Single(f => f.Address == PciAddress.Parse(Lab.Igb)).DriverOverride);
        // Both that had an uevent.
        Assert.Equal([Lab.BootDisplay, Lab.Igb], read.Order(StringComparer.Ordinal));
        _lab.Agent.Scan([Uevent.Lost]);
        Assert.Equal(_lab.Simulated.Functions.Count, read.Count);
    }

    [Fact]
    public async Task What_a_claim_has_come_to_hold_is_looked_at_although_its_uevents_are_late()
    {
        _lab.Agent.Scan();
        await _lab.Prepare("claim-1", Lab.Igb);
        HostSnapshot seen = _lab.Agent.Scan([
            new Uevent
            {
                Action = "change",
                DevPath = "/devices/virtual/block/dm-0",
                Subsystem = "block",
            },
        ]);
        Assert.Equal("vfio-pci", seen.Functions.Single(f => f.Address == PciAddress.Parse(Lab.Igb)).Driver);
        Assert.Equal(HoldingState.Prepared, _lab.Agent.Holdings.Single().State);
    }

    private Task Vfs(string pf, int count)
    {
        Write($"/sys/bus/pci/devices/{pf}/sriov_numvfs", "0");
        return Write($"/sys/bus/pci/devices/{pf}/sriov_numvfs", $"{count}");
    }

    private Task Write(string path, string value)
    {
        try
        {
            _lab.Simulated.Files.Write(path, value);
        }
        catch (HostIoException)
        {
            // Not now: the kernel says no, and nothing has changed.
        }

        return Task.CompletedTask;
    }

    private Task Change(string address, Action<SimulatedFunction> change)
    {
        _lab.Simulated.Change(address, change);
        return Task.CompletedTask;
    }

    private Task Unplug(string address)
    {
        if (_lab.Simulated.Find(address) is not null)
            _lab.Simulated.Remove(address);
        return Task.CompletedTask;
    }

    private Task Plug(string address)
    {
        if (_lab.Simulated.Find(address) is null)
        {
            _lab.Simulated.Add(
                new SimulatedFunction
                {
                    Address = address,
                    Ids = "8086:10c9",
                    Class = 0x020000,
                    Bridge = "0000:80:00.0",
                    Numa = 1,
                    HostDriver = "igb",
                    Serial = "a0369fffff777777",
                    Sriov = new SimulatedSriov
                    {
                        Total = 7,
                        VfProduct = "10ca",
                        VfDriver = "igbvf",
                        Stride = 2,
                    },
                    Interfaces = [new SimulatedInterface { Name = "ens3" }],
                }
            );
        }

        return Task.CompletedTask;
    }

    private static string Describe(HostSnapshot snapshot) =>
        string.Join(
            '\n',
            snapshot
                .Functions.Select(f =>
                    $"{f.Function} {f.Driver} {f.DriverOverride} {f.NumVfs} {string.Join(' ', f.ResetMethods)} {f.Name} {f.VfioGroupNode} {f.VfioDeviceNode} {f.GuardName} {f.GuardReason} {f.WithheldBy} {f.ProvenReset} {string.Join(' ', f.Problems)}"
                )
                .Concat(snapshot.Problems)
                .Concat(snapshot.Facts.Select(f => $"{f}"))
                .Append($"{snapshot.Iommu} {snapshot.Vfio}")
        );

    private static string Difference(string all, string some) =>
        string.Join(
            '\n',
            all.Split('\n')
                .Except(some.Split('\n'))
                .Select(l => $"+ {l}")
                .Concat(some.Split('\n').Except(all.Split('\n')).Select(l => $"- {l}"))
        );

    /// <summary>Collects a simulated host's uevents.</summary>
    private sealed class Ears : IAsyncDisposable
    {
        private readonly SimulatedHost _host;
        private readonly IAsyncEnumerator<Uevent> _events;
        private Task<bool> _next;

        public Ears(SimulatedHost host)
        {
            _host = host;
            _events = host.Uevents.ReadAsync(CancellationToken.None).GetAsyncEnumerator();
            _next = _events.MoveNextAsync().AsTask();
        }

        /// <summary>All until now: a change of a device that nothing else changes marks the end.</summary>
        public async Task<IReadOnlyList<Uevent>> AllAsync()
        {
            _host.Change(Lab.BootDisplay, _ => { });
            var all = new List<Uevent>();
            while (await _next)
            {
                all.Add(_events.Current);
                _next = _events.MoveNextAsync().AsTask();
                if (all[^1].PciSlotName == Lab.BootDisplay)
                    break;
            }

            return all;
        }

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
