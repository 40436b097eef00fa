// @ts-check
/** Gives each block of code a button that copies it. */
for (const block of document.querySelectorAll('pre')) {
  if (!navigator.clipboard) break
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'copy'
  const say = (text) => (button.textContent = text)
  say('Copy')
  button.addEventListener('click', () => {
    navigator.clipboard.writeText(block.textContent ?? '').then(
      () => say('Copied'),
      () => say('Not allowed'),
    )
  })
  block.before(button)
}
