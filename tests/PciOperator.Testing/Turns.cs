using System.Runtime.CompilerServices;
using Xunit.Sdk;
using Xunit.v3;

namespace PciOperator.Testing;

/// <summary>
/// Of a class whose tests take long, each run of <c>make test</c> has some: every so manieth, which PCI_TEST_SEED names. With
/// <c>PCI_TEST_ALL=1</c> (<c>make test-all</c>), and where nobody names a seed, all are there.
/// </summary>
/// <param name="parts">In how many runs all have had their turn.</param>
/// <param name="first">Which turn the first test has: classes with the same tests then have different ones in a run.</param>
[AttributeUsage(AttributeTargets.Class, Inherited = false)]
public sealed class TurnsAttribute(int parts, int first = 0) : Attribute, ITraitAttribute
{
    /// <summary>Whether a test is of this run.</summary>
    internal static bool Includes(IXunitTestMethod test)
    {
        TurnsAttribute? turns = test
            .TestClass.Class.GetCustomAttributes(typeof(TurnsAttribute), inherit: false)
            .Cast<TurnsAttribute>()
            .FirstOrDefault();
        if (turns is null || TestScope.All || !TestScope.IsShare)
            return true;
        int index = test
            .TestClass.Methods.Select(m => m.Name)
            .Where(name => string.CompareOrdinal(name, test.Method.Name) < 0)
            .Distinct()
            .Count();
        return (index + turns.First + TestScope.Seed) % turns.Parts == 0;
    }

    private int Parts => parts;

    private int First => first;

    /// <inheritdoc/>
    public IReadOnlyCollection<KeyValuePair<string, string>> GetTraits() => [new("Cases", "Many")];
}

/// <summary>A theory of a class that may have <see cref="TurnsAttribute"/>: all its cases have the same turn.</summary>
[XunitTestCaseDiscoverer(typeof(TurnDiscoverer<TheoryDiscoverer>))]
[AttributeUsage(AttributeTargets.Method)]
public sealed class TurnTheoryAttribute([CallerFilePath] string? sourceFilePath = null, [CallerLineNumber] int sourceLineNumber = -1)
    : TheoryAttribute(sourceFilePath, sourceLineNumber);

/// <summary>A test of a class that may have <see cref="TurnsAttribute"/>.</summary>
[XunitTestCaseDiscoverer(typeof(TurnDiscoverer<FactDiscoverer>))]
[AttributeUsage(AttributeTargets.Method)]
public sealed class TurnFactAttribute([CallerFilePath] string? sourceFilePath = null, [CallerLineNumber] int sourceLineNumber = -1)
    : FactAttribute(sourceFilePath, sourceLineNumber);

/// <summary>Finds the cases of a test when it is its turn.</summary>
/// <typeparam name="T">Finds them otherwise.</typeparam>
public sealed class TurnDiscoverer<T> : IXunitTestCaseDiscoverer
    where T : IXunitTestCaseDiscoverer, new()
{
    private readonly T _all = new();

    /// <inheritdoc/>
    public ValueTask<IReadOnlyCollection<IXunitTestCase>> Discover(
        ITestFrameworkDiscoveryOptions discoveryOptions,
        IXunitTestMethod testMethod,
        IFactAttribute factAttribute
    ) => TurnsAttribute.Includes(testMethod) ? _all.Discover(discoveryOptions, testMethod, factAttribute) : new([]);
}
