namespace PciOperator.Sandbox.ApiServer.Resources;

/// <summary>UIDs and generated names; repeatable with a seed.</summary>
internal sealed class Identities(int? seed)
{
    // Without vowels and look-alikes, as apimachinery's rand.String.
    private const string Alphabet = "bcdfghjklmnpqrstvwxz2456789";

    private readonly Lock _lock = new();
    private readonly Random _random = seed is { } value ? new Random(value) : new Random();

    public string Uid()
    {
        Span<byte> bytes = stackalloc byte[16];
        lock (_lock)
            _random.NextBytes(bytes);
        bytes[6] = (byte)((bytes[6] & 0x0f) | 0x40);
        bytes[8] = (byte)((bytes[8] & 0x3f) | 0x80);
        return new Guid(bytes, bigEndian: true).ToString();
    }

    public string NameFrom(string prefix)
    {
        Span<char> suffix = stackalloc char[5];
        lock (_lock)
        {
            foreach (ref char c in suffix)
                c = Alphabet[_random.Next(Alphabet.Length)];
        }

        return (prefix.Length > 58 ? prefix[..58] : prefix) + suffix.ToString();
    }

    public double NextDouble()
    {
        lock (_lock)
            return _random.NextDouble();
    }
}
