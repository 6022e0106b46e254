namespace PciOperator.Cli;

/// <summary>What a script can tell by the exit code; docs/kubectl-pci.md lists them.</summary>
internal static class ExitCodes
{
    /// <summary>Done, and the answer is yes.</summary>
    public const int Ok = 0;

    /// <summary>Something else: the API server refused, or the program has a defect.</summary>
    public const int Failed = 1;

    /// <summary>The command line can't be meant.</summary>
    public const int Usage = 2;

    /// <summary>There is no kubeconfig, or it can't be used.</summary>
    public const int NoKubeconfig = 3;

    /// <summary>The API server can't be reached.</summary>
    public const int Unreachable = 4;

    /// <summary>The API server knows the caller not, or forbids it.</summary>
    public const int Forbidden = 5;

    /// <summary>The cluster doesn't have PciOperator's resources.</summary>
    public const int NotInstalled = 6;

    /// <summary>What was named is not there.</summary>
    public const int NotFound = 7;

    /// <summary>Done, and the answer is no: it doesn't fit, a problem was found, the device is held.</summary>
    public const int No = 8;

    /// <summary>Stopped by Ctrl-C.</summary>
    public const int Interrupted = 130;
}

/// <summary>An end that a person can do something about: one sentence, and an exit code.</summary>
internal sealed class CliException(int exitCode, string message) : Exception(message)
{
    /// <summary>One of <see cref="ExitCodes"/>.</summary>
    public int ExitCode { get; } = exitCode;
}
