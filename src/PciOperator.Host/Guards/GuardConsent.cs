using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Which devices the host itself lets a PciDeviceSpec's guardOverrides give away: lines of a file in the state folder, so that no token of
/// the cluster's is enough.
/// </summary>
internal sealed class GuardConsent
{
    private readonly HashSet<PciAddress> _addresses = [];
    private bool _all;

    private GuardConsent(string path) => Path = path;

    /// <summary>STATE/guard-overrides: an address a line, or "*" for every device; "#" begins a comment.</summary>
    public string Path { get; }

    /// <summary>No file, or one that can't be read, consents to nothing.</summary>
    public static GuardConsent Read(IHostFileSystem files, string stateDirectory)
    {
        var consent = new GuardConsent($"{stateDirectory}/guard-overrides");
        string? text;
        try
        {
            text = files.ReadText(consent.Path);
        }
        catch (HostIoException)
        {
            return consent;
        }

        foreach (string line in (text ?? "").Split('\n').Select(l => l.Split('#')[0].Trim()))
        {
            consent._all |= line == "*";
            if (PciAddress.TryParse(line.ToLowerInvariant(), out PciAddress address))
                consent._addresses.Add(address);
        }

        return consent;
    }

    public bool Allows(PciAddress address) => _all || _addresses.Contains(address);
}
