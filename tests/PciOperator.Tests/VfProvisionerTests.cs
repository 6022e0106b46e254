using Microsoft.Extensions.Logging.Abstractions;
using PciOperator.Agent;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>The agent's part in numbers of VFs: who blocks it, when it is tried again, and what a PF's reason says.</summary>
public sealed class VfProvisionerTests
{
    private const string X710 = "0000:82:00.0";
    private static readonly PciAddress Port = PciAddress.Parse(X710);

    [Fact]
    public async Task The_claims_that_block_a_number_are_named_and_it_is_applied_when_they_go()
    {
        var agent = new Provisioning();
        agent.Give("team-a", "nic", "0000:82:02.1");
        await agent.LookAsync(8);
        Assert.Equal("8 VFs wanted, has 4: VF 0000:82:02.1 is held by claim team-a/nic; done when it is released", agent.Note);
        Assert.Empty(agent.Simulated.Log);

        agent.Give("team-b", "port", X710);
        await agent.LookAsync(8);
        Assert.Equal("8 VFs wanted, has 4: the PF itself is held by claim team-b/port; done when it is released", agent.Note);

        agent.Node.Spec.Assignments = [];
        await agent.LookAsync(8);
        Assert.Equal((null, 8), (agent.Note, agent.Vfs));
    }

    [Fact]
    public async Task What_the_kernel_refuses_is_tried_less_and_less_often()
    {
        var agent = new Provisioning();
        agent.Simulated.Change(X710, f => f.Sriov!.Errno = Errnos.ENOSPC);
        await agent.LookAsync(8);
        Assert.Contains("8 VFs wanted, has 0: ", agent.Note, StringComparison.Ordinal);
        Assert.Contains("enable SR-IOV in the BIOS", agent.Note, StringComparison.Ordinal);
        Assert.Equal(1, agent.Attempts);

        for (int step = 0; step < 720; step++)
        {
            agent.Time.Advance(TimeSpan.FromSeconds(5));
            await agent.LookAsync(8);
        }

        // 2, 4, 8, … 256 s, then every 5 min.
        Assert.InRange(agent.Attempts, 15, 20);
        Assert.Contains("8 VFs wanted, has 0: ", agent.Note, StringComparison.Ordinal);

        // Another number is tried at once.
        int before = agent.Attempts;
        await agent.LookAsync(6);
        Assert.Equal(before + 1, agent.Attempts);

        // So is a PF whose driver was loaded again.
        await agent.LookAsync(6);
        agent.Simulated.Change(X710, f => (f.Driver, f.Sriov!.Errno) = (null, 0));
        await agent.LookAsync(6);
        Assert.Contains("bind it to that first", agent.Note, StringComparison.Ordinal);
        await agent.LookAsync(6);
        agent.Simulated.Change(X710, f => f.Driver = f.HostDriver);
        await agent.LookAsync(6);
        Assert.Equal((null, 6), (agent.Note, agent.Vfs));
    }

    [Fact]
    public async Task Fewer_than_asked_for_is_said_and_not_made_again_and_again()
    {
        var agent = new Provisioning();
        agent.Simulated.Change(X710, f => f.Sriov!.Most = 6);
        await agent.LookAsync(8);
        for (int second = 0; second < 60; second++)
        {
            agent.Time.Advance(TimeSpan.FromSeconds(1));
            await agent.LookAsync(8);
        }

        Assert.StartsWith(
            "8 VFs wanted, has 6: 8 VFs of 0000:82:00.0 were asked for, and its driver made 6",
            agent.Note,
            StringComparison.Ordinal
        );
        Assert.InRange(agent.Attempts, 4, 6);
    }

    [Fact]
    public async Task A_VF_that_the_host_uses_keeps_the_number_until_it_is_not_used()
    {
        var agent = new Provisioning();
        agent.Simulated.Change("0000:82:02.1", f => f.Interfaces[0].Address = true);
        await agent.LookAsync(2);
        Assert.Contains("2 VFs wanted, has 4: The VFs of 0000:82:00.0 can't be removed: ", agent.Note, StringComparison.Ordinal);
        await agent.LookAsync(2);
        Assert.Empty(agent.Simulated.Log);

        // No clock moves: the host's change is enough.
        agent.Simulated.Change("0000:82:02.1", f => f.Interfaces[0].Address = false);
        await agent.LookAsync(2);
        Assert.Equal((null, 2), (agent.Note, agent.Vfs));
    }

    [Fact]
    public async Task A_number_survives_a_reboot_and_an_autoprobe_alone_is_set_while_a_VF_is_held()
    {
        var agent = new Provisioning();
        await agent.LookAsync(3, autoprobe: false);
        agent.Restart(reboot: true);
        Assert.Equal(0, agent.Vfs);
        await agent.LookAsync(3, autoprobe: false);
        Assert.Equal((3, false), (agent.Vfs, agent.Seen.VfsAutoprobe));

        agent.Give("team-a", "nic", "0000:82:02.1");
        await agent.LookAsync(3, autoprobe: true);
        Assert.Equal((null, true), (agent.Note, agent.Seen.VfsAutoprobe));
    }

    [Fact]
    public async Task Without_a_rule_the_VFs_stay_as_they_are()
    {
        var agent = new Provisioning();
        await agent.LookAsync(8);
        agent.Simulated.Change(X710, f => f.Sriov!.Errno = Errnos.EIO);
        await agent.LookAsync(7);
        Assert.NotNull(agent.Note);
        int writes = agent.Attempts;
        await agent.LookAsync(null);
        Assert.Equal((null, writes), (agent.Note, agent.Attempts));
    }

    /// <summary>A provisioner on a lab host, with a clock that stands still.</summary>
    private sealed class Provisioning
    {
        private TaskCompletionSource _ended = new();
        private PassthroughHost _host;
        private VfProvisioner _vfs;

        public Provisioning()
        {
            (_host, _vfs) = New();
        }

        public SimulatedHost Simulated { get; } = LabHosts.Create();

        public FakeTimeProvider Time { get; } = new();

        public PciNode Node { get; } =
            new()
            {
                Metadata = new() { Name = "node-1" },
                Spec = new PciNodeSpec(),
            };

        public string? Note => _vfs.Notes.GetValueOrDefault(Port);

        public int Vfs => Simulated.Functions.Count(f => f.PhysFn == X710);

        public HostFunction Seen => _host.Scan().Functions.Single(f => f.Address == Port);

        /// <summary>Numbers above 0 that were written.</summary>
        public int Attempts => Simulated.Log.Count(w => w.Path.EndsWith("sriov_numvfs", StringComparison.Ordinal) && w.Value != "0");

        public void Give(string space, string claim, string address) =>
            Node.Spec.Assignments = [
                new PciAssignment
                {
                    ClaimUid = claim,
                    ClaimNamespace = space,
                    ClaimName = claim,
                    Devices = [new AssignedDevice { Address = address }],
                },
            ];

        public void Restart(bool reboot)
        {
            if (reboot)
                Simulated.Reboot();
            (_host, _vfs) = New();
        }

        /// <summary>One round of the agent's; returns when what it began has ended.</summary>
        public async Task LookAsync(int? numVfs, bool? autoprobe = null)
        {
            await _host.RecoverAsync();
            Node.Spec.Rules =
            [
                new PciNodeRule
                {
                    Name = "x710",
                    Devices = [new DeviceSelectorSpec { ProductId = "1572" }],
                    Sriov = new SriovSpec { NumVfs = numVfs, DriversAutoprobe = autoprobe },
                },
            ];
            _ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _vfs.Look(Node, _host.Scan(), CompiledRules.Of(Node.Spec.Rules), CancellationToken.None);
            if (_vfs.IsWorking)
                await _ended.Task.WaitAsync(TimeSpan.FromSeconds(30));
        }

        private (PassthroughHost Host, VfProvisioner Vfs) New()
        {
            var host = new PassthroughHost(Simulated.Files, SimulatedHost.StateDirectory, Time);
            return (
                host,
                new VfProvisioner(
                    host,
                    Time,
                    NullLogger.Instance,
                    TimeSpan.FromSeconds(2),
                    changed =>
                    {
                        if (changed)
                            _ended.TrySetResult();
                    }
                )
            );
        }
    }
}
