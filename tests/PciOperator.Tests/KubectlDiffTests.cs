using PciOperator.Testing;

namespace PciOperator.Tests;

/// <summary>What a person or a tool sees that compares files with the sandbox's server on its own side.</summary>
public sealed class SandboxKubectlDiffTests : KubectlDiffTests
{
    protected override bool Real => false;
}

/// <summary>The same with a real one.</summary>
[Turns(4)]
public sealed class RealKubectlDiffTests : KubectlDiffTests
{
    protected override bool Real => true;
}

/// <summary>What the server fills in (a request's <c>count</c>) is no difference to a file that leaves it out.</summary>
public abstract class KubectlDiffTests
{
    protected abstract bool Real { get; }

    [TurnFact]
    public async Task What_the_server_fills_in_is_no_drift()
    {
        await using LabCluster lab = await LabCluster.StartAsync(Real, controller: false);
        string samples = Path.Combine(Kubectl.Repository, "config", "samples");
        await Kubectl.RunAsync(lab.KubeconfigText, "apply", "-f", samples);
        // kubectl diff ends with 1 when there is a difference.
        Assert.Equal((0, ""), await Kubectl.TryAsync(lab.KubeconfigText, null, "diff", "--server-side=false", "-f", samples));
        // A spec can't be changed, and applying the same file changes nothing.
        await Kubectl.RunAsync(lab.KubeconfigText, "apply", "-f", samples);
        Assert.Equal("1", await Kubectl.RunAsync(lab.KubeconfigText, "get", "ptc", "render", "-o", "jsonpath={.spec.requests[0].count}"));
        Assert.Equal("1", await Kubectl.RunAsync(lab.KubeconfigText, "get", "ptc", "render", "-o", "jsonpath={.metadata.generation}"));
    }
}
