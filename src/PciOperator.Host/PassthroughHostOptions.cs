namespace PciOperator.Host;

/// <summary>Limits of a <see cref="PassthroughHost"/>.</summary>
public sealed record PassthroughHostOptions
{
    /// <summary>How long one call of the kernel may take before its holding is called Stuck. The work goes on when it returns.</summary>
    public TimeSpan WriteTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// How long reading one file may hold up a look at everything; a device that takes longer is withheld until it answers.
    /// </summary>
    public TimeSpan LookTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// How long one call of the kernel may hold up the looks that other claims share with who makes it, by the real clock.
    /// </summary>
    internal TimeSpan LookPatience { get; init; } = TimeSpan.FromMilliseconds(25);

    /// <summary>How long VFs that the kernel counts may take to be there.</summary>
    public TimeSpan VfTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How long a device may take to answer after a reset, unless it asks for more.</summary>
    public TimeSpan ResetPatience { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>The name of the host's Node and PciNode, for sentences that say what command to run.</summary>
    public string NodeName { get; init; } = "NODE";

    /// <summary>Drivers whose devices are never taken, unless a person overrides that for one of them.</summary>
    public IReadOnlyList<string> DeniedDrivers { get; init; } = Host.DeniedDrivers.BuiltIn;
}
